"""Patterns of secrets: one per row, with the four characters by which a match can be recognised.

The shapes of keys and tokens as their makers publish them, then those of any maker, then values known by the name they
are assigned to. Each pattern has one capturing group: the secret itself, without the words around it.
"""

from __future__ import annotations

from typing import NamedTuple

AFTER_ESCAPE = (
    r"(?<=\\[abefnrtv0])|(?<=\\u00[01][0-9a-fA-F])|(?<=\\x[0-9a-fA-F]{2})"  # of JSON or Python
    r"|(?<=%[0-9A-F]{2})"  # of a URL
    r"|(?<=[0-9;\[]m)"  # of a terminal: a colour
)
"""A place that follows a letter or digit and yet starts a word."""

_WORD = r"[A-Za-z0-9_-]"
_VALUE = r"[A-Za-z0-9+/=_.~-]"
_PEM = r"(?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?"
_PEM_BODY = r"(?:[A-Za-z0-9+/=:,. \t\r\n]|-(?!----)|\\+[nrt])"
_PEM_LINES = r"(?:(?:\s|\\+[nrt])*[A-Za-z0-9+/=]{16,})+"
_QUOTE = r"(?:\\{0,15}[\"'`])"
_IS = rf"{_QUOTE}?\]?[ \t]{{0,3}}(?:=>|:=|={{1,2}}|[:>]|(?<=[\"'`]),(?=[ ]?{_QUOTE})|(?<=[ ]))[ \t]{{0,3}}"
_QUOTED = r"(?<=[\"'`])[^\s\"'`\\<>\0]{6,1000}+(?![^\s\"'`\\<>\0])"
_BARE = r"[^\s\"'`\\<>\0,;(){}\[\]|&]{6,1000}+(?![^\s\"'`\\<>\0,;){}\]|&])"
_ASSIGNED = rf"{_IS}{_QUOTE}?({_QUOTED}|{_BARE})"
_GIVES = r"[\"'`\\=:> \],]"
"""What may follow a name that a value is assigned to."""
_FROM_ROOT = (
    r"(?:(?<![\w.~})\]-])|(?<=-[A-Za-z])|(?<=/[A-Za-z])|(?<=/var)|(?<=/usr)|(?<=/mnt)|(?<=/nfs)|(?<=export)"
    rf"|{AFTER_ESCAPE})"
)
_NAME = r"((?=[\w.-]*[^\W\d_])\w(?:[\w.-]*\w)?(?![\w{(<$*]))"


class Pattern(NamedTuple):
    """``regex`` is tried where the text has the four characters of ``anchor``, each given as itself or as a class."""

    kind: str
    anchor: str
    regex: str
    bounded: bool = True
    """A match starts at the start of a word."""


PATTERNS = (
    # clouds
    Pattern("aws_key", "A[KSBC][ICA]A", r"((?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9]))"),
    Pattern("google_key", "AIza", rf"(AIza{_WORD}{{35}}(?![A-Za-z0-9]))"),
    Pattern("google_key", "GOCS", rf"(GOCSPX-{_WORD}{{20,}})"),
    Pattern("google_token", "ya29", rf"(ya29\.{_WORD}{{20,}})"),
    Pattern("google_token", "1//0", rf"(1//0{_WORD}{{30,}})"),
    Pattern("azure_key", "sig=", r"sig=((?:[A-Za-z0-9+/]|%[0-9a-fA-F]{2}){40,}=?)"),
    Pattern("azure_key", r"8Q~[\w~.-]", r"(?<=[\w~.-]{3})(8Q~[\w~.-]{31,34}(?![\w~.-]))", bounded=False),
    Pattern("digitalocean_token", "do[opr]_", r"(do[opr]_v1_[0-9a-f]{40,})"),
    Pattern("databricks_token", "dapi", r"(dapi[0-9a-f]{32})"),
    Pattern("heroku_key", "HRKU", rf"(HRKU-{_WORD}{{30,}})"),
    Pattern("supabase_token", "sbp_", r"(sbp_[0-9a-f]{40})"),
    Pattern("netlify_token", "nfp_", r"(nfp_[A-Za-z0-9]{30,})"),
    Pattern("planetscale_token", "psca", r"(pscale_(?:tkn|pw|oauth)_[\w.-]{30,})"),
    # code hosts, package registries, continuous integration
    Pattern("github_token", "gh[pousr]_", r"(gh[pousr]_[A-Za-z0-9]{36,})"),
    Pattern("github_token", "gith", r"(github_pat_[A-Za-z0-9_]{40,})"),
    Pattern(
        "gitlab_token",
        "gl[pdrcifsoa][atbmofg]",
        rf"(gl(?:pat|ptt|dt|rtr?|cbt|imt|ft|soat|oas|ffct|agent)-{_WORD}{{20,}})",
    ),
    Pattern("atlassian_token", "AT[AC]T", r"(AT[AC]TT3[\w=-]{60,})"),
    Pattern("npm_token", "npm_", r"(npm_[A-Za-z0-9]{36})"),
    Pattern("pypi_token", "pypi", rf"(pypi-Ag{_WORD}{{50,}})"),
    Pattern("rubygems_token", "ruby", r"(rubygems_[0-9a-f]{40,})"),
    Pattern("docker_token", "dckr", rf"(dckr_[po]at_{_WORD}{{20,}})"),
    Pattern("terraform_token", "atla", r"(atlasv1\.[\w=-]{60,})"),
    Pattern("vault_token", "hv[sbr][.]", rf"(hv[sbr]\.{_WORD}{{20,}})"),
    Pattern("doppler_token", "dp[.][pscatui]", r"(dp\.(?:pt|st|ct|sa|scim|audit)\.[\w-]{40,})"),
    Pattern("pulumi_token", "pul-", r"(pul-[0-9a-f]{40})"),
    Pattern("sentry_token", "sntr", r"(sntry[su]_[\w=/+-]{40,})"),
    Pattern("grafana_token", "gl[sc][a_]", r"(glsa_[A-Za-z0-9_]{30,}|glc_[A-Za-z0-9+/=]{30,})"),
    Pattern("newrelic_key", "NRAK", r"(NRAK-[A-Z0-9]{20,})"),
    Pattern("postman_key", "PMAK", r"(PMAK-[0-9a-f-]{50,})"),
    # models and searches
    Pattern("anthropic_key", "sk-[A-Za-z0-9]", rf"(sk-ant-{_WORD}{{20,}})"),
    Pattern(
        "openai_key",
        "sk-[A-Za-z0-9]",
        rf"(sk-(?:proj|svcacct|admin|None|or-v1|lf)-(?=[A-Za-z_-]{{0,80}}[0-9]){_WORD}{{20,}})",
    ),
    Pattern("openai_key", "sk-[A-Za-z0-9]", r"(sk-(?=[A-Za-z]*[0-9])[A-Za-z0-9]{20,})"),
    Pattern("huggingface_token", "hf_[A-Za-z0-9]", r"(hf_[A-Za-z0-9]{30,})"),
    Pattern("huggingface_token", "api_", r"(api_org_[A-Za-z0-9]{30,})"),
    Pattern("groq_key", "gsk_", r"(gsk_[A-Za-z0-9]{40,})"),
    Pattern("xai_key", "xai-", r"(xai-[A-Za-z0-9]{40,})"),
    Pattern("perplexity_key", "pplx", r"(pplx-[A-Za-z0-9]{32,})"),
    Pattern("replicate_token", "r8_[A-Za-z0-9]", r"(r8_[A-Za-z0-9]{30,})"),
    Pattern("tavily_key", "tvly", rf"(tvly-{_WORD}{{20,}})"),
    Pattern("pinecone_key", "pcsk", r"(pcsk_[A-Za-z0-9_]{40,})"),
    Pattern("langsmith_key", "lsv2", r"(lsv2_(?:pt|sk)_[A-Za-z0-9_]{30,})"),
    # chat, mail, payment, documents
    Pattern("slack_token", "xox[abeoprs]", r"(xox[abeoprs](?:\.xox[bp])?-(?=[A-Za-z-]{0,80}[0-9])[A-Za-z0-9-]{10,})"),
    Pattern("slack_token", "xapp", r"(xapp-[0-9]-[A-Za-z0-9-]{20,})"),
    Pattern("slack_webhook", "hook", r"hooks\.slack\.com/\w+/T\w+/B\w+/([A-Za-z0-9]{16,})"),
    Pattern("discord_webhook", "hook", rf"hooks/[0-9]{{15,}}/({_WORD}{{60,}})", bounded=False),
    Pattern("telegram_token", ":AA[A-Za-z0-9_-]", rf"(?<=[0-9]{{8}}):(AA{_WORD}{{33}}(?![A-Za-z0-9]))", bounded=False),
    Pattern("twilio_key", "[SA][KC][0-9a-f][0-9a-f]", r"((?:SK|AC)[0-9a-f]{32}(?![A-Za-z0-9]))"),
    Pattern("sendgrid_key", "SG[.][A-Za-z0-9_-]", rf"(SG\.{_WORD}{{16,32}}\.{_WORD}{{32,64}})"),
    Pattern("mailgun_key", "key-", r"(key-[0-9a-f]{32}(?![A-Za-z0-9]))"),
    Pattern("stripe_key", "[sr]k_[lt]", r"([sr]k_(?:live|test)_[A-Za-z0-9]{16,})"),
    Pattern("stripe_key", "whse", r"(whsec_[A-Za-z0-9+/]{24,}=*)"),
    Pattern("square_token", "sq0[ac]", rf"(sq0(?:atp|csp)-{_WORD}{{20,}})"),
    Pattern("shopify_token", "shp[acps]", r"(shp(?:at|ss|ca|pa)_[0-9a-fA-F]{32})"),
    Pattern("facebook_token", "EAA[A-Z]", r"(EAA[A-Z][A-Za-z0-9]{80,})"),
    Pattern("notion_token", "ntn_", r"(ntn_[A-Za-z0-9]{40,})"),
    Pattern("notion_token", "secr", r"(secret_[A-Za-z0-9]{43}(?![A-Za-z0-9]))"),
    Pattern("linear_key", "lin_", r"(lin_(?:api|oauth)_[A-Za-z0-9]{30,})"),
    Pattern("figma_token", "figd", rf"(figd_{_WORD}{{30,}})"),
    # any maker
    Pattern("jwt", "eyJ[A-Za-z0-9_-]", rf"(eyJ{_WORD}{{8,2000}}+\.{_WORD}{{16,}}\.{_WORD}{{16,}}(?:\.{_WORD}+)*)"),
    Pattern(
        "private_key",
        "BEGI",
        rf"(?<=-----)(BEGIN {_PEM}-----(?={_PEM_BODY}{{0,400}}?[A-Za-z0-9+/]{{16}})"
        rf"(?:{_PEM_BODY}*?-----END {_PEM}|{_PEM_LINES}))",
        bounded=False,
    ),
    Pattern("private_key", "AGE-", r"(AGE-SECRET-KEY-1[0-9A-Z]{50,})"),
    Pattern(
        "bearer_token",
        "[eE][aA][rR][eE]",
        rf"(?i:(?<=b)earer)[\"'\\]{{0,2}}:?\s{{1,3}}((?={_VALUE}*?[0-9]){_VALUE}{{16,}})",
        bounded=False,
    ),
    Pattern(
        "authorization",
        "[uU][tT][hH][oO]",
        rf"(?i:(?<=a)uthorization){_QUOTE}?\s?[:=]\s?{_QUOTE}?(?i:basic |token |apikey |bot )?"
        rf"((?=.{_VALUE}*?[A-Z0-9=]){_VALUE}{{10,2000}}+)(?![(\[+/=\w.~-])",
        bounded=False,
    ),
    # named by what they are assigned to
    Pattern("assigned", f"[kK][eE][yY]{_GIVES}", rf"(?i:key){_ASSIGNED}", bounded=False),
    Pattern("assigned", f"[kK][eE][nN]{_GIVES}", rf"(?i:ken){_ASSIGNED}", bounded=False),
    Pattern("assigned", f"[rR][eE][tT]{_GIVES}", rf"(?i:ret){_ASSIGNED}", bounded=False),
    Pattern("assigned", f"[oO][rR][dD]{_GIVES}", rf"(?i:ord){_ASSIGNED}", bounded=False),
    Pattern("assigned", f"[pPsS][wW][dD]{_GIVES}", rf"(?i:[ps]wd){_ASSIGNED}", bounded=False),
    Pattern("assigned", "[sS][pP][hH][rR]", rf"(?i:sphrase){_ASSIGNED}", bounded=False),
    # people
    Pattern("home_path", "[/][hU][os][me]", rf"{_FROM_ROOT}/(?:home|Users)/{_NAME}", bounded=False),
    Pattern(
        "home_path",
        r"[\\][U][s][e]",
        r"\\Users\\{1,16}([\w.-]+(?: [\w.-]+){1,2}(?=\\)|[\w-](?:[\w.-]*[\w-])?)",
        bounded=False,
    ),
    Pattern("home_path", "-[hU][os][me]", r"(?<=/)-(?:home|Users)-([A-Za-z0-9_]+)(?=-)", bounded=False),
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PLAIN_WORDS = _words(
    "password passwd pass pwd passphrase secret token key apikey user username admin root test tester testing example "
    "sample demo dummy fake mock foo bar baz foobar string value none null true false change changeme yourpassword "
    "mypassword abc qwerty xyz xxx redacted placeholder hidden default guest postgres mysql required optional"
)
"""Placeholders for passwords in examples; digits and signs around them do not make them real."""
NOBODY = _words(
    "user users username your_username yourname your_user you me name someone person ubuntu debian centos fedora "
    "alpine arch linux ec2-user azureuser opc vagrant docker podman runner runneradmin circleci travis jenkins gitpod "
    "vscode codespace coder code dev developer devuser app appuser application node python ruby jovyan sandbox "
    "sandboxuser swe agent openhands model_user nonroot nobody www www-data webapp work worker workspace project "
    "projects repo repos data shared public default guest administrator admin root test tester testuser build builder "
    "oracle postgres mysql hadoop spark airflow git linuxbrew mambauser micromamba kasm-user computeruse computer "
    "steam pi kali lib bin index about contact foo bar baz"
)
"""Names of home directories that belong to no person: accounts of images and machines, placeholders, pages."""
NO_PERSON = _words("git hg svn noreply no-reply donotreply do-not-reply")
"""The part before the ``@`` of addresses that belong to no person."""
FILE_ENDINGS = _words(
    "png jpg jpeg gif svg webp ico bmp js jsx mjs ts tsx css scss json html htm xml yaml yml toml txt log csv lock tar "
    "gz whl exe dll so java cpp"
)
"""What ends the name of a file (``icon@2x.png``) and no address."""
