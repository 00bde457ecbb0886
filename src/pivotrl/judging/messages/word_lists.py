"""English words that a text's meaning hangs on, and those that it does not. Lists of ours, short on purpose."""

from __future__ import annotations


def words(text: str) -> list[str]:
    return text.split()


FUNCTION_WORDS = frozenset(
    words(
        "a an the this that these those it its i me my we us our you your he she they them their his her and or but if "
        "so as at by for from in into of on onto to with is am are was were be been being do does did have has had "
        "will would can could shall should may might must let here there then than too also just about any some all "
        "each both other which who what when where how why please ok okay yes sure certainly hello hi hey thanks "
        "thank sorry now very"
    )
)
"""They do not count when the words of two messages are compared."""

ROLES = frozenset(words("user customer client agent assistant request requested issue order booking please note"))
"""May begin a sentence without being a name."""

NEGATIONS = frozenset(words("not no never cannot without unable none neither nor nothing nobody unless impossible"))

_OPPOSITES = (
    "succeed succeeds succeeded success successful successfully / fail fails failed failure",
    "accept accepts accepted approve approves approved allow allows allowed / "
    "reject rejects rejected deny denies denied decline declines declined refuse refused forbid forbidden",
    "add adds added adding / remove removes removed removing",
    "enable enables enabled / disable disables disabled",
    "include includes included including / exclude excludes excluded excluding",
    "increase increases increased raise raised / decrease decreases decreased lower lowered reduce reduced",
    "open opens opened / close closes closed",
    "buy buys bought / sell sells sold",
    "send sends sent / receive receives received",
    "before / after",
    "more / less fewer",
    "maximum most highest / minimum least lowest",
    "first earliest / last latest",
    "start starts started begin begins / stop stops stopped end ends ended",
    "upgrade upgrades upgraded / downgrade downgrades downgraded",
    "arrive arrives arrival / depart departs departure",
    "true / false",
    "yes / no",
    "above over / below under",
    "cancel cancels canceled cancelled canceling cancelling cancellation cancellations",
    "refund refunds refunded refunding",
    "off",
)
POLES = {
    word: f"{number}{sign}"
    for number, pair in enumerate(_OPPOSITES)
    for sign, side in zip("+-", pair.split("/"), strict=False)
    for word in side.split()
}
"""Word -> its side of an opposition. The last three have one side: a text says it or does not."""

DIRECTIONS = {
    **dict.fromkeys(("from", "off", "leaving"), "from"),
    **dict.fromkeys(("to", "into", "onto", "until", "towards"), "to"),
    **dict.fromkeys(("before", "above", "over"), "before"),
    **dict.fromkeys(("after", "below", "under"), "after"),
    **dict.fromkeys(("with", "by"), "with"),
}
"""Word -> how it binds what follows: ``from A to B`` is not ``to A from B``."""

MONTHS = {
    name[:length]: number
    for number, name in enumerate(
        words("january february march april may june july august september october november december"), start=1
    )
    for length in (3, len(name))
} | {"sept": 9}

NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        words(
            "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
            "eighteen nineteen twenty"
        ),
        start=2,
    )
} | {
    "twice": "2",
    **dict(zip(words("thirty forty fifty sixty seventy eighty ninety"), map(str, range(30, 100, 10)), strict=True)),
}
"""``one`` is left out: it is a pronoun too."""

TENS_AND_UNITS = {
    f"{tens}-{unit}": str(int(NUMBERS[tens]) + number)
    for tens in words("twenty thirty forty fifty sixty seventy eighty ninety")
    for number, unit in enumerate(words("one two three four five six seven eight nine"), start=1)
}

OTHER_NUMBERS = frozenset(
    words(
        "zero hundred thousand million billion dozen half halves quarter quarters third thirds both pair couple "
        "double triple cent cents penny pence noon midday midnight fortnight o'clock"
    )
)
"""They say a number that is not worked out here: where one text has such a word and the other a figure, both may
mean the same."""

CURRENCIES = {
    **dict.fromkeys(("$", "usd", "dollar", "dollars"), "usd"),
    **dict.fromkeys(("€", "eur", "euro", "euros"), "eur"),
    **dict.fromkeys(("£", "gbp", "pound", "pounds"), "gbp"),
    **dict.fromkeys(("¥", "jpy", "yen"), "jpy"),
    **{code: code for code in words("cny inr chf cad aud")},
}
