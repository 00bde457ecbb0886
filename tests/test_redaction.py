"""Secrets are found in every shape and place they come in, what only looks like one is left alone, and what replaces a
secret keeps equal things equal, JSON valid and beginnings beginnings.

No canary is a real secret: each is drawn at random when the test runs, and its prefix is put together only then.

Run alone: python -m pytest tests/test_redaction.py
"""

import base64
import json
import random
import re
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.reading.privacy import secrets_scan
from pivotrl.reading.privacy.redaction import Redactor, find_secrets
from pivotrl.reading.privacy.secret_patterns import PATTERNS
from pivotrl.reading.privacy.secrets_scan import scan
from pivotrl.records import Loss, Message, Tool, ToolCall, Trajectory

KEY = b"a key of the test, not a secret."
ALPHABETS = {
    "a": string.ascii_letters + string.digits,
    "l": string.ascii_letters,
    "c": string.ascii_lowercase,
    "h": "0123456789abcdef",
    "d": string.digits,
    "u": string.ascii_uppercase + string.digits,
    "w": string.ascii_letters + string.digits + "_-",
    "b": string.ascii_letters + string.digits + "+/",
}
CANARIES = [
    # kind; the text, the secret between « and » (all of it when there are none); {a36}: 36 drawn characters;
    # a bar is taken out, so that no prefix stands here whole
    ("aws_key", "AK|IA{u16}"),
    ("aws_key", "AS|IA{u16}"),
    ("secret", "aws_secret_access_key = «{b40}»"),
    ("secret", "AWS_SECRET_ACCESS_KEY=«{b40}»"),
    ("google_key", "AI|za{w34}x"),
    ("google_key", "GOC|SPX-{w28}"),
    ("google_token", "ya|29.{w120}"),
    ("google_token", "1/|/0{w60}"),
    ("secret", "DefaultEndpointsProtocol=https;AccountName=store1;AccountKey=«{b86}==»;EndpointSuffix=core"),
    ("secret", "Endpoint=sb://bus.example.net/;SharedAccessKey=«{b43}=»"),
    ("azure_key", "https://store.blob.core/x?sv=2022-11-02&sig=«{b43}%3D»"),
    ("azure_key", "{a3}«8|Q~{w34}»"),
    ("digitalocean_token", "do|p_v1_{h64}"),
    ("databricks_token", "da|pi{h32}"),
    ("heroku_key", "HR|KU-{w36}"),
    ("supabase_token", "sb|p_{h40}"),
    ("netlify_token", "nf|p_{a36}"),
    ("planetscale_token", "psc|ale_tkn_{w43}"),
    ("github_token", "gh|p_{a36}"),
    ("github_token", "gh|o_{a36}"),
    ("github_token", "gh|s_{a36}"),
    ("github_token", "github|_pat_{a22}_{a59}"),
    ("gitlab_token", "gl|pat-{w20}"),
    ("gitlab_token", "gl|rt-{w20}"),
    ("gitlab_token", "gl|cbt-{w26}"),
    ("atlassian_token", "AT|ATT3{a180}"),
    ("npm_token", "np|m_{a36}"),
    ("pypi_token", "py|pi-AgEIcHlwaS5vcmc{w100}"),
    ("rubygems_token", "ruby|gems_{h48}"),
    ("docker_token", "dc|kr_pat_{w27}"),
    ("terraform_token", "{a14}.«atl|asv1.{w67}»"),
    ("vault_token", "hv|s.{w24}"),
    ("doppler_token", "dp.|pt.{a43}"),
    ("pulumi_token", "pu|l-{h40}"),
    ("sentry_token", "snt|rys_{w80}"),
    ("grafana_token", "gl|sa_{a32}_{h8}"),
    ("newrelic_key", "NR|AK-{u27}"),
    ("postman_key", "PM|AK-{h24}-{h34}"),
    ("anthropic_key", "sk|-ant-api03-{w93}AA"),
    ("openai_key", "sk|-proj-{w48}T3BlbkFJ{w48}"),
    ("openai_key", "sk|-{a20}T3BlbkFJ{a20}"),
    ("openai_key", "sk|-svcacct-{w60}7"),
    ("openai_key", "sk|-or-v1-{h64}"),
    ("huggingface_token", "hf|_{l34}"),
    ("huggingface_token", "api|_org_{l34}"),
    ("groq_key", "gs|k_{a52}"),
    ("xai_key", "xa|i-{a80}"),
    ("perplexity_key", "pp|lx-{a48}"),
    ("replicate_token", "r|8_{a37}"),
    ("tavily_key", "tv|ly-{a32}"),
    ("pinecone_key", "pc|sk_{a64}"),
    ("langsmith_key", "ls|v2_pt_{h32}_{h10}"),
    ("slack_token", "xo|xb-{d12}-{d13}-{a24}"),
    ("slack_token", "xo|xp-{d12}-{d12}-{d12}-{h32}"),
    ("slack_token", "xa|pp-1-A{u10}-{d13}-{h64}"),
    ("slack_webhook", "https://hooks.sl|ack.com/services/T{u8}/B{u10}/«{a24}»"),
    ("discord_webhook", "https://discord.com/api/web|hooks/{d18}/«{w68}»"),
    ("telegram_token", "{d10}:«A|A{w32}x»"),
    ("twilio_key", "S|K{h32}"),
    ("secret", "twilio auth_token='«{h31}7»'"),
    ("sendgrid_key", "S|G.{w22}.{w43}"),
    ("mailgun_key", "ke|y-{h32}"),
    ("stripe_key", "sk|_live_{a24}"),
    ("stripe_key", "rk|_test_{a24}"),
    ("stripe_key", "wh|sec_{a32}"),
    ("square_token", "sq|0atp-{w22}"),
    ("shopify_token", "shp|at_{h32}"),
    ("facebook_token", "EA|ACE{a160}"),
    ("notion_token", "nt|n_{d11}{a35}"),
    ("notion_token", "sec|ret_{a43}"),
    ("linear_key", "li|n_api_{a40}"),
    ("figma_token", "fi|gd_{w40}"),
    ("jwt", "ey|J{a33}.ey|J{a60}.{w43}"),
    ("private_key", "AGE-SEC|RET-KEY-1{u58}"),
    ("bearer_token", "curl -H 'Authorization: Bea|rer «{a40}7»' https://api.internal/v1"),
    ("bearer_token", "bea|rer «{h40}»"),
    ("authorization", "Authorization: Ba|sic «Qm9{a13}=»"),
    ("secret", 'api_key: "«{h32}»"'),
    ("secret", "OPENAI_API_KEY=«{a31}7» python run.py"),
    ("secret", 'os.environ["WANDB_API_KEY"] = "«{h40}»"'),
    ("secret", "export SERVICE_TOKEN='«{a39}7»'"),
    ("secret", '{"client_secret": "«{a39}7»", "x": 1}'),
    ("secret", "tool --api-key «{a31}7» --verbose"),
    ("secret", "https://api.internal/v1?q=1&access_token=«{a31}7»&page=2"),
    ("secret", "os.environ.setdefault('GITHUB_TOKEN', '«{h40}»')"),
    ("secret", "<apiKey>«{a31}7»</apiKey>"),
    ("secret", "X-Api-Key: «{a31}7»"),
    ("secret", "JWT_SECRET=«{b42}77»"),
    ("password", 'password = "«hunt{d3}er»"'),
    ("password", "DB_PASSWORD=«x{a8}!7»"),
    ("password", '{"user": "bob", "passwd": "«k{a9}7»"}'),
    ("password", "Server=db;User Id=sa;Pwd=«Q{a9}7»;"),
    ("password", "mysql --password=«r{a9}7» -u bob"),
    ("password", "mysql --password «r{a9}7» -u bob"),
    ("password", "CREATE USER bob WITH PASSWORD '«s{a9}7»'"),
    ("url_password", "postgres://bob:«{a12}»@db.internal:5432/app"),
    ("url_password", "https://bob:«p%40{a8}»@git.internal/x.git"),
    ("secret", "git clone https://x-access-token:«{h40}»@github.com/a/b"),
    ("url_password", "https://«{h39}7»@github.com/a/b"),
    ("url_password", "redis://:«{a16}»@cache:6379/0"),
    ("url_password", "mongodb+srv://bob:«{a8}@{a4}»@cluster0.mongodb.net"),
    ("email", "{c6}.{c8}@corp-mail.io"),
    ("email", "{c6}+list@sub.{c8}.co.uk"),
    ("email", "Alice <«{c8}@gmail.com»>, cc"),
    ("email", "https://x.internal/?mail=«{c8}%40gmail.com»&x=1"),
    ("email", "Signed-off-by: B «{d7}+{c6}@users.noreply.github.com»"),
    ("email", "«{c5}.müller@firma.de»"),
    ("home_path", "/home/«q{c7}»/repo/src"),
    ("home_path", "/Users/«q{c5}.{c4}»/Library"),
    ("home_path", "C:\\Users\\«Q{c7}»\\AppData"),
    ("home_path", "C:\\Users\\«Q{c7} B{c4}»\\AppData"),
    ("home_path", "c:/Users/«q{c7}»/x"),
    ("home_path", "gcc -I/home/«q{c7}»/include"),
    ("home_path", "/var/home/«q{c7}»/x"),
    ("home_path", "cat ~/.claude/projects/-home-«q{c7}»-repo/a.jsonl"),
    ("home_path", "\x1b[01;34m/home/«q{c7}»\x1b[0m"),
]  # fmt: skip


def draw(template: str, seed: int = 0) -> tuple[str, str]:
    """(text, the secret in it)"""
    generator = random.Random(f"{seed}/{template}")

    def characters(found: re.Match[str]) -> str:
        return "".join(generator.choices(ALPHABETS[found[1]], k=int(found[2])))

    text = re.sub(r"\{([a-z])(\d+)\}", characters, template.replace("|", ""))
    marked = re.search("«(.*)»", text)
    return text.replace("«", "").replace("»", ""), marked[1] if marked else text


def pem(label: str, seed: int = 0) -> str:
    body = base64.b64encode(random.Random(seed).randbytes(1100)).decode()
    lines = [body[i : i + 64] for i in range(0, len(body), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"))


IDS = [f"{kind}-{i}" for i, (kind, _) in enumerate(CANARIES)]


def in_json(text: str) -> str:
    return json.dumps({"command": "echo", "content": f"first\n{text}\nlast"})


SURROUNDINGS: dict[str, Callable[[str], str]] = {
    "alone": lambda text: text,
    "in a sentence": lambda text: f"I used {text} for it, naïve as I was 🙈.",
    "in JSON": in_json,
    "in JSON in JSON": lambda text: json.dumps({"body": in_json(text)}),
    "in JSON in JSON in JSON": lambda text: json.dumps([json.dumps({"body": in_json(text)})]),
    "in JSON that escapes for HTML": lambda text: re.sub(
        r"[<>&'+=]", lambda found: f"\\u{ord(found[0]):04x}", in_json(text)
    ),
    "in JSON that escapes slashes": lambda text: in_json(text).replace("/", "\\/"),
    "after a tab in Python source": lambda text: f"x = 'a\\t' '{text}'" if "'" not in text else text,
}


@pytest.mark.parametrize(("kind", "template"), CANARIES, ids=IDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_canary_is_found_wherever_it_stands(kind: str, template: str, seed: int) -> None:
    text, secret = draw(template, seed)
    names = set()
    for surrounding, put in SURROUNDINGS.items():
        whole = put(text)
        redacted, counts = Redactor(KEY).redact_text(whole)
        assert counts[kind] == 1, (surrounding, whole, counts)
        assert counts.total() == 1, (surrounding, whole, counts)
        escaped = put(secret) if surrounding == "alone" else json.dumps(secret)[1:-1]
        assert secret not in redacted and escaped not in redacted, (surrounding, redacted)
        assert redacted.count("_") >= 1
        names |= set(re.findall(r"<[A-Z_]+_[0-9a-f]{8}>|user_[0-9a-f]{8}", redacted))
        if "JSON" in surrounding:
            json.loads(redacted)
        again, counts = Redactor(b"another key, another key").redact_text(redacted)
        assert again == redacted and not counts, surrounding
    assert len(names) == 1, names  # one secret, one name, whatever the escapes around it


@pytest.mark.parametrize("label", ["PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])
def test_a_private_key_is_found_whole_or_cut_short(label: str) -> None:
    whole = pem(label)
    names = set()
    for put in SURROUNDINGS.values():
        redacted, counts = Redactor(KEY).redact_text(put(whole))
        assert counts == {"private_key": 1}
        assert not re.search(r"[A-Za-z0-9+/]{40}", redacted)
        names |= set(re.findall(r"<PRIVATE_KEY_[0-9a-f]{8}>", redacted))
    assert len(names) == 1
    cut, counts = Redactor(KEY).redact_text(whole[:900] + "\n[output truncated]")
    assert counts == {"private_key": 1} and cut.endswith(">\n[output truncated]") and len(cut) < 80


NEAR_MISSES = [
    # identifiers and hashes
    "4f7c0f4e-6d0b-4d3c-9a53-0c8a9d2f1e77", "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "md5 = d41d8cd98f00b204e9800998ecf8427e", "call_sumFTucxMOyQNc2iud9dAHdy", "toolu_01A09q90qw90lq917835lq9",
    "chatcmpl-9hXyZk2mN4pQ6rS8tU0vW2xY4zA6b", "req_011CSHoEeqs5C35K2UUqR7Fy", "mohamed_hernandez_5188",
    "marshmallow-code__marshmallow-1867", "index 83a2c5e..f1d0b29 100644", "HAT271", "msg_01XFDUDYJgAACzvnptvVoYEL",
    "arn:aws:iam::123456789012:role/deploy", "i-0abcd1234efgh5678", "projects/my-project-123456/topics/t",
    "docker.io/library/python@sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
    "packages.example.com/react/-/react-18.2.0.tgz#555bd98592883255fa00de14f1151a917b5d77d5",
    '"integrity": "sha512-/3IjMdb2L9QbBdWiW5e3P2/npwMBaU9mHCSCUzNln0ZCYbcfTsGbTJrU/kGemdH2IWmB2ioZ+zkxtmq6g09fGQ=="',
    # images and other data
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7", "\\x89PNG\\r\\n\\x1a\\n", "0xdeadbeefdeadbeef",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 (public)",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBa\n-----END CERTIFICATE-----",
    "a file that starts with -----BEGIN PRIVATE KEY----- and goes on with lines",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    # versions, numbers, dates
    "Python 3.11.7 (main, Dec  8 2023, 14:22:46)", "numpy==1.26.4", "2024-05-15T23:00:00EST", "v1.2.3-rc.1+build.5",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "192.168.178.1:8080", "4111 1111 1111 1111", "tel. 555-0100",
    # words that start like a key
    "scikit-learn, sk-learn and sk-toggleable__label-arrow", "sk-estimator-doc-link-container-for-the-fitted-model",
    "task-oriented", "npm_config_registry_of_the_company_goes_here", "hf_hub_download(repo_id, filename)",
    "hf_models_cache_directory_of_the_current_user", "ghp_token", "glob-pattern-that-is-quite-long-indeed",
    "github_pattern_matcher_for_the_repository_names", "gitlab-runner", "key-value-store-with-32-partitions",
    "AKIA", "ASIANPACIFICCONFERENCE", "AIzawa", "SG.1", "eyJ is how a JWT starts", "xoxo-gossip-girl-season-two",
    "pypi-server-of-the-company-with-a-long-name-and-more-words", "do_v1_compat", "secret_santa_list_of_everybody_here",
    "https://github.com/pallets/flask/blob/main/src/flask/app.py", "bearer of good news from the northern 7 countries",
    "Authorization: required for all endpoints", "The Bearer authentication scheme", "r8_quantized_weights",
    # names without a secret
    "max_tokens=4096", "num_tokens: 128000", "eos_token = '<|endoftext_0001_of_all|>'",
    'next_page_token="CAUQAA7f3k2m9x1z8q"',
    "pad_token_id=151643", "password: str = Field(min_length=8)", "password=os.environ['DB_PASSWORD']",
    "password = getpass.getpass('Password 1:')", "password=${DB_PASSWORD1}", "password={{ vault_db_password_1 }}",
    "password = form.cleaned_data['password1']", "set_password(password1)", "PASSWORD=changeme123",
    "password: ********",
    'api_key = "YOUR_API_KEY_1234567890"', "api_key=settings.OPENAI_API_KEY_2", "api_key = config.get_key_v2()",
    'api_key: "sk-..."', "secret_key_base: <%= ENV['SECRET_KEY_BASE_1'] %>",
    "private_key: /etc/ssl/private/server1.pem", '"pwd": "/workspace/project1"', "join(pwd, './data/set-1.csv')",
    'publicKeyToken="b77a5c561934e089"',
    "primary_key=True, foreign_key='users.id_1234567890abcdef'", "cache_key = 'user:1234567890:profile:v2'",
    "the token is 16 characters long", "keyboard: qwertz1234567890abcd", "sort_key='created_at_2024_01_01'",
    "AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "token_type_ids=[0, 1]", "keys: a1, b2, c3",
    # addresses and paths that are nobody's
    "yara.garcia1234@example.com", "test@example.org", "user@localhost", "git@github.com:org/repo.git",
    "ssh://git@github.com/org/repo", "noreply@anthropic.com", "@app.route('/home')", "@pytest.mark.parametrize",
    "react@18.2.0", "actions/checkout@v4", "icon@2x.png", "a @ b.T", "scores = q@k.transpose(-2, -1)", "@types/node",
    "postgres://user:password@localhost/db", "postgres://postgres:postgres@db/app", "https://user:${TOKEN}@host/x",
    "https://<user>:<password>@host/x", "http://localhost:8080/@fs/x", "https://medium.com/@writer/a-post-1234567890",
    "/home/user/repo", "/home/ubuntu/x", "/home/runner/work/a/a", "/Users/username/x", "C:\\Users\\Public\\x",
    "~/home/x",
    "/home/", "/home/$USER/x", "/home/{user}/x", "/home/<name>/x", "https://example.com/home/index",
    "src/home/views.py",
    "/home/index.html", "this.props.history.push('/home')", "/root/x", "/homeowner/x", "api/Users/123",
]  # fmt: skip
FALSE_POSITIVES = {
    "y = hidden@self.weight": "a product of matrices written like an address",
    "GET /home/dashboard": "a page that is called like a home directory",
    "password = 'tom123'": "a password of a test is a password",
    "publish on cvs://:pserver:anonymous@cvs.host/x": "a public password is one too",
    "continuation: token='CAUQAA7f3k2m9x1z8q0000'": "a bare token= may be a key or the place in a list",
}
"""What is replaced though nothing would be lost if it were not, and why; a change of it should show."""


def test_what_only_looks_like_a_secret_is_left_alone() -> None:
    assert len(NEAR_MISSES) >= 80
    assert [text for text in NEAR_MISSES for put in SURROUNDINGS.values() if scan(put(text))] == []


def test_known_false_positives() -> None:
    assert [text for text in FALSE_POSITIVES if not scan(text)] == []


def test_every_pattern_has_a_canary() -> None:
    assert len(CANARIES) >= 80
    tried = {scan(draw(template)[0])[0].kind for _, template in CANARIES} | {"private_key", "assigned"}
    assert {pattern.kind for pattern in PATTERNS} <= tried
    texts = [draw(template)[0] for _, template in CANARIES] + [pem("PRIVATE KEY")]
    for pattern in PATTERNS:
        anchored = [text for text in texts if re.search(pattern.anchor + ".*", text) and re.search(pattern.regex, text)]
        assert anchored or "sphrase" in pattern.regex, pattern


# --- trajectories -------------------------------------------------------------------------------------------------

EMAIL = "quentin.dupont@corp-mail.io"
PASSWORD = "korrekt7pferd"  # noqa: S105


def trajectory(*messages: Message, **fields: Any) -> Trajectory:
    return Trajectory(**{"id": "t", "task_id": "task", "messages": messages, **fields})


def everywhere(secret: str) -> Trajectory:
    """The same secret in every field that holds text."""
    call = ToolCall(name="send", arguments=json.dumps({"to": [secret], "note": f'line\n{secret}\t"x"'}), id="call_1")
    return trajectory(
        Message(role="user", content=f"I am {secret}"),
        Message(role="assistant", content=None, reasoning=f"So {secret}.", tool_calls=(call, call)),
        Message(role="tool", content=json.dumps({"email": secret}), tool_call_id="call_1"),
        tools=(
            Tool(
                name="send",
                description=f"Sends mail, to {secret} say",
                parameters={"properties": {"to": {"enum": [secret], "description": f"not {secret}"}}},
            ),
        ),
        metadata={"foreign": {secret: [1.5, None, True, {"author": secret}]}},
        losses=(Loss(code="subagent", detail=f"left out: {secret}"),),
        id=f"run of {secret}",
        task_id=f"task of {secret}",
    )


def test_every_text_of_a_trajectory_is_searched() -> None:
    original = everywhere(EMAIL)
    redacted, counts = Redactor(KEY).redact(original)
    assert EMAIL not in redacted.model_dump_json()
    names = set(re.findall(r"<EMAIL_[0-9a-f]{8}>", redacted.model_dump_json()))
    assert len(names) == 1
    # the same record with the name in place of the address, and nothing else changed
    assert redacted == everywhere(names.pop())
    assert counts == {"email": len(re.findall(re.escape(EMAIL), original.model_dump_json()))}
    assert find_secrets(redacted) == []


def test_findings_say_where_and_not_what() -> None:
    original = everywhere(EMAIL)
    findings = find_secrets(original)
    assert EMAIL not in "".join(finding.model_dump_json() for finding in findings)
    places = {(finding.message, finding.field) for finding in findings}
    assert places == {
        (0, "content"), (1, "reasoning"), (1, "tool_calls[0].arguments"), (1, "tool_calls[1].arguments"),
        (2, "content"), (None, "tools[0].description"), (None, "tools[0].parameters"),
        (None, "losses[0].detail"), (None, "metadata"),
        (None, "id"), (None, "task_id"),
    }  # fmt: skip
    for finding in findings:
        if finding.field == "content" and finding.message is not None:
            text = original.messages[finding.message].content
            assert text is not None and text[finding.start : finding.end] == EMAIL


def test_without_a_key_secrets_are_counted_and_stay() -> None:
    original = everywhere(EMAIL)
    same, counts = Redactor().redact(original)
    assert same is original and counts == {"email": 15}


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 65])
def test_a_bad_key_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="16 to 64 bytes"):
        Redactor(key)


def test_the_name_of_a_secret_depends_on_the_key_only() -> None:
    text = f"{EMAIL} and bob@corp-mail.io"
    first, again, other = (Redactor(key).redact_text(text)[0] for key in (KEY, KEY, KEY[::-1]))
    assert first == again != other
    assert len(set(re.findall("<[^>]+>", first))) == 2  # two secrets, two names


def test_a_password_is_found_again_where_no_word_tells() -> None:
    login = ToolCall(name="login", arguments=json.dumps({"password": PASSWORD}))
    redacted, counts = Redactor(KEY).redact(
        trajectory(
            Message(role="user", content=f"it is {PASSWORD}"),  # before it is known to be one
            Message(role="assistant", tool_calls=(login,)),
            Message(role="tool", content=f"tried {PASSWORD}\\n{PASSWORD}; not {PASSWORD}s or my{PASSWORD}"),
        )
    )
    name = json.loads(redacted.messages[1].tool_calls[0].arguments)["password"]
    assert re.fullmatch(r"<SECRET_[0-9a-f]{8}>", name)
    assert redacted.messages[2].content == f"tried {name}\\n{name}; not {PASSWORD}s or my{PASSWORD}"
    assert redacted.messages[0].content == f"it is {PASSWORD}"
    assert counts == {"password": 3}


def test_arguments_that_are_no_json_are_searched_too_and_kept_otherwise() -> None:
    broken = f'{{"to": "{EMAIL}", "body": "unfinished\\n'
    call = ToolCall(name="send", arguments=broken)
    redacted, _ = Redactor(KEY).redact(trajectory(Message(role="assistant", tool_calls=(call,))))
    arguments = redacted.messages[0].tool_calls[0].arguments
    assert EMAIL not in arguments and arguments.endswith('>", "body": "unfinished\\n')


def test_spacing_order_and_numbers_of_arguments_stay() -> None:
    raw = '{ "b":1e3,"a" :  "' + EMAIL + '", "c": 0.10, "d": "\\u00e9\\/" }'
    call = ToolCall(name="f", arguments=raw)
    redacted, _ = Redactor(KEY).redact(trajectory(Message(role="assistant", tool_calls=(call,))))
    arguments = redacted.messages[0].tool_calls[0].arguments
    assert re.sub("<[^>]+>", EMAIL, arguments) == raw


def test_a_real_log_keeps_everything_but_its_addresses() -> None:
    """By eye: the e-mail addresses of these six episodes end in example.com (nobody's) but for two at gmail.com."""
    text = Path(__file__, "../data/tau_bench/gpt-4o-airline.json").resolve().read_text()
    gmail = re.findall(r"[\w.]+@gmail\.com", text)
    redacted, counts = Redactor(KEY).redact_text(text)
    assert counts.total() == len(gmail)
    assert "@gmail.com" not in redacted and redacted.count("@example.com") == text.count("@example.com")
    assert re.sub(r"<EMAIL_\w+>", "", redacted) == re.sub(r"[\w.]+@gmail\.com", "", text)
    json.loads(redacted)


# --- properties ---------------------------------------------------------------------------------------------------

PIECES = [draw(template, seed)[0] for seed in range(2) for _, template in CANARIES] + NEAR_MISSES
SEAMS = ["", " ", "\n", "\\n", "\\\\n", "\\", "\\\\", '"', "'", "@", ":", "=", "/", "-", ".", "_", "<", ">", "\0",
    "a", "0",
         "é", "🙈", "\\u003d", "\\/", "password=", '"token": "', "%40"]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES + SEAMS) | st.text(max_size=5), max_size=8).map("".join)
calls = st.builds(lambda text, deep: json.dumps({"x": json.dumps(text) if deep else text}), texts, st.booleans())
messages = st.builds(
    lambda content, reasoning, arguments: Message(
        role="assistant",
        content=content,
        reasoning=reasoning,
        tool_calls=tuple(ToolCall(name="f", arguments=text) for text in arguments),
    ),
    st.none() | texts,
    st.none() | texts,
    st.lists(calls | texts, max_size=2),
)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@settings(max_examples=150, deadline=None)
@given(st.lists(messages, min_size=1, max_size=4), st.data())
def test_redaction_keeps_the_shape(given_messages: list[Message], data: st.DataObject) -> None:
    redactor = Redactor(KEY)
    whole = trajectory(*given_messages)
    redacted, counts = redactor.redact(whole)
    assert counts.total() >= len(find_secrets(whole))
    assert len(redacted.messages) == len(whole.messages)
    for before, after in zip(whole.messages, redacted.messages, strict=True):
        assert (before.content is None) == (after.content is None)
        for call, new in zip(before.tool_calls, after.tool_calls, strict=True):
            assert not is_json(call.arguments) or is_json(new.arguments)
    # twice is once
    again, none = redactor.redact(redacted)
    assert again == redacted and not none
    # a beginning stays a beginning
    length = data.draw(st.integers(0, len(given_messages)))
    beginning, _ = redactor.redact(trajectory(*given_messages[:length]))
    assert beginning.messages == redacted.messages[:length]


@settings(max_examples=150, deadline=None)
@given(texts)
def test_the_filter_loses_nothing(text: str) -> None:
    """The patterns tried at every place find what they find at the places the filter names."""
    everywhere_in_text = range(len(text))
    assert secrets_scan._scan(text, everywhere_in_text) == secrets_scan._scan(text, secrets_scan._FILTER.places(text))


UNITS = [
    "-----BEGIN PRIVATE KEY-----\n", "a@", "key=", "Bearer ", "password: ", "/home/", "A", "://a:", "x.", "\\u0040",
    "\\",
    "token ", "AGE-SECRET-KEY-1", "sk-", "sk-ant-", "eyJ-", "authorization=", "gh" + "p_", "secret='", "%40",
    "\\Users\\",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
def test_a_hostile_text_takes_no_longer_than_its_length(unit: str) -> None:
    start = time.process_time()
    for text in (unit * (100_000 // len(unit)), "eyJ" + unit * 1000 + "a" * 100_000, 'key"' + unit * 1000 + "@x.y"):
        scan(text)
    assert time.process_time() - start < 3.0
