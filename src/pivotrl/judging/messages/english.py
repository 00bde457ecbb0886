"""Whether two English texts consist of the same words.

Beside what may differ in any language (:mod:`pivotrl.judging.messages.same_words`) these are contractions, articles and
*your*, the spelling of numbers, amounts and times, phrases of courtesy, and a few turns of phrase
(:mod:`pivotrl.judging.messages.rewording`). The lists are ours and short on purpose.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from itertools import pairwise

from pivotrl.judging.messages.dates import number
from pivotrl.judging.messages.rewording import reworded
from pivotrl.judging.messages.same_words import MARKS, Token, num_sayings, quoted_signs, same_tokens, tokens_of
from pivotrl.judging.messages.word_lists import CURRENCIES, NUMBERS, TENS_AND_UNITS, words

_THOUSANDS = re.compile(r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])")
_AMOUNT = re.compile(r"([-+]?)([$€£¥]?)([0-9]{1,30}(?:\.[0-9]{1,30})?)(%?)\Z")
_CLOCK = re.compile(r"(?<![0-9:.])([0-9]{1,2})(?::([0-9]{2}))? ?([ap])\.?m\b\.?", re.IGNORECASE)
_MONTH = r"(?:(?:Jan|Febr)uary|March|April|May|June|July|August|(?:Septem|Octo|Novem|Decem)ber)"
_ORDINAL = re.compile(rf"\b({_MONTH}) ([0-9]{{1,2}})(?:st|nd|rd|th)\b")
_RANGE = re.compile(r"([0-9]{1,9})[-\u2013]([0-9]{1,9})\Z")
_HYPHENS = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z]+)+\Z")
_MAX_WORDS = 20_000
_QUOTED = re.compile(r"`([^`\n]+)`|\"([^\"\n]+)\"|<command>(.*?)</command>", re.DOTALL)
"""Code and quotations: nothing in them is left out."""
_LONG = re.compile(r"(?<![^\W_])[^\W\d_]{7,}(?![^\W_])")
_OPTIONAL = frozenset(
    words(
        "cancelled cancelling canceled canceling seventeen eighteen nineteen thirteen fourteen fifteen sixteen seventy "
        "percent dollars anything something questions question further assistance additional certainly absolutely "
        "alright problem confirming patience understanding wonderful evening weekend"
    )
)

_ENDINGS = (("n't", "not"), ("'m", "am"), ("'re", "are"), ("'ve", "have"), ("'ll", "will"))
_WHOLE = {
    "cannot": "can not",
    "can't": "can not",
    "won't": "will not",
    "shan't": "shall not",
    "let's": "let us",
    "&": "and",
    "ok": "okay",
    "cancelled": "canceled",
    "cancelling": "canceling",
    **{f"{word}'s": f"{word} is" for word in words("it that there here what")},
}
_KEEPS_ARTICLE = frozenset(
    words("few little lot bit couple number most least first last only same more other one second third next")
)
"""After these an article means something: *few*, *a few*; *most*, *the most*."""
_BEFORE_PLACES = frozenset(words("in on at by of out off"))
"""Behind these an article means something: *in front of the bus*, *in the front*; *out of question*; *at sea*."""
_MAY_BE_NAMES = frozenset(
    words(
        "will bill mark rose grant frank chase jack may june april august summer dean page price cook baker miller "
        "hope faith grace joy art drew guy pat rob ray rich sandy stone wood young brown black white green west north "
        "south east apple target amazon visa shell subway gap oracle sprint delta united orange"
    )
)
"""At the beginning of a sentence these are persons, firms or months, and things only behind an article."""
_JOINTS = frozenset({"and", "or", "but"})
"""A comma before them means nothing."""
_FILLERS = frozenset(
    {
        *("sure", "certainly", "absolutely", "great", "okay", "hello", "hi", "hey", "thanks", "thank you"),
        *("of course", "no problem", "alright", "got it"),
    }
)
"""May come before the first sentence."""
_OFFER = (
    r"(?:any|anything|something|else|any other|further|other|additional|more|questions?|assistance|help|i can do|for"
    r"|you|with|or|need|have|there is|there are|if|in future|at any time|today|i can help|i can assist|me know|let|ask)"
)
_COURTESY = re.compile(
    rf"(?:let (?:me|us) know|feel free to (?:ask|reach out|let me know)) if (?:{_OFFER} )*(?:else|questions?|further|"
    rf"assistance|more|help)(?: {_OFFER})*"
    rf"|(?:if you (?:have any (?:other|further|more) questions|need (?:any )?(?:further|more) (?:help|assistance))"
    r"(?: or need (?:any )?(?:further|more) (?:help|assistance))? , )"
    r"(?:let (?:me|us) know|feel free to (?:ask|reach out|let me know))"
    r"|is there anything else (?:i|we) can (?:help|assist|do)(?: (?:you|for you|you with|with))?(?: today)?"
    r"|have (?:great|nice|good|lovely|wonderful) (?:day|evening|weekend|time)"
    r"|thank you for (?:patience|confirming|understanding)"
)


def same_in_english(one: str, other: str) -> bool:
    """Whether two English texts consist of the same words, up to what the module says."""
    if _long_words(one) != _long_words(other):
        return False  # without taking them apart
    mine, theirs = (_QUOTED.findall(text) for text in (one, other))
    if (len(mine) == len(theirs) and mine != theirs) or quoted_signs(one) != quoted_signs(other):
        return False
    if num_sayings(one) != num_sayings(other):
        return False
    said = _english(one)
    return (
        any(token.text not in MARKS for token in said)
        and same_tokens(said, _english(other))
        and _same_owners(_owned(one), _owned(other))
    )


_NOUN = re.compile(r"\b(?:(your|an?|the) )?([\w'-]+)(?=( [a-z]+-?\d[\w-]*\b)?)", re.IGNORECASE)


def _owned(text: str) -> dict[str, set[tuple[str, int]]]:
    """The words behind *your*, behind *the* and behind *a*, and those before a code with a digit (*booking B17*); each
    with its number among its likes."""
    found: dict[str, set[tuple[str, int]]] = {"your": set(), "the": set(), "a": set(), "named": set()}
    seen = Counter[str]()
    for article, word, code in _NOUN.findall(text.casefold()):
        if code:
            found["named"].add((word, seen[word]))
        if article:
            found[article if article in found else "a"].add((word, seen[word]))
        seen[word] += 1
    return found


def _same_owners(one: dict[str, set[tuple[str, int]]], other: dict[str, set[tuple[str, int]]]) -> bool:
    """Whether *your* is *the* on the other side, and that on one side only: *your copies* are not all copies. *Your
    booking B17* is *booking B17*, too: there is only one."""
    left, right = one["your"] - other["your"], other["your"] - one["your"]
    return not (left and right) and left <= other["the"] | other["named"] and right <= one["the"] | one["named"]


@functools.lru_cache(maxsize=1024)
def _long_words(text: str) -> frozenset[str]:
    """The words that no rule here leaves out or spells in another way."""
    return frozenset(map(str.casefold, _LONG.findall(text))) - _OPTIONAL


@functools.lru_cache(maxsize=1024)
def _english(text: str) -> tuple[Token, ...]:
    plain = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), reworded(text.replace("\u2019", "'")))
    plain = _ORDINAL.sub(r"\1 \2", _CLOCK.sub(_full_hour, plain))
    tokens = tokens_of(plain)
    if len(tokens) > _MAX_WORDS:
        return tokens
    spelled = _plain_amounts([word for token in tokens for word in _spelled(token)])
    told = _without_courtesy(_without_requests(_without_articles(spelled)))
    joints = {token.text.casefold() for token in told} & _JOINTS
    if len(joints) > 1:  # a and b, or c: the comma tells what belongs together
        joints = set()
    made: list[Token] = []
    for token in told:
        if token.text in (".", ",", "\n"):
            if made and made[-1].text not in MARKS and made[-1].text not in joints:
                made.append(Token(",", token.begins))
            continue
        if token.text.casefold() in joints and made and made[-1].text == ",":
            made.pop()
        made.append(token)
    while made and made[-1].text == ",":
        made.pop()
    return tuple(made)


def _full_hour(clock: re.Match[str]) -> str:
    """``3 pm`` -> ``15:00``; a full stop behind it may end the sentence."""
    hour = int(clock[1])
    if not 1 <= hour <= 12:
        return clock[0]
    return f"{hour % 12 + 12 * (clock[3] in 'pP'):02}:{clock[2] or '00'}" + ("." if clock[0].endswith(".") else "")


def _spelled(token: Token) -> list[Token]:
    """One spelling for contractions, numbers and amounts."""
    word, low = token.text, token.text.casefold()
    if low in _WHOLE:
        return _split(token, _WHOLE[low].split())
    if low in NUMBERS and low != "twice":  # press twice, press 2
        return [Token(NUMBERS[low], False)]
    if low in CURRENCIES and not low.startswith("pound"):  # which may be a weight
        return [Token(CURRENCIES[low], False)]
    if low == "percent":
        return [Token("%", False)]
    if found := _AMOUNT.match(word):
        parts = [found[1] + found[3], CURRENCIES[found[2]] if found[2] else "", found[4]]
        return [Token(part, False) for part in parts if part]
    if low in TENS_AND_UNITS:
        return [Token(TENS_AND_UNITS[low], False)]
    if (span := _RANGE.match(word)) and int(span[1]) < int(span[2]):
        return [Token(part, False) for part in (span[1], "to", span[2])]
    if _HYPHENS.match(word):
        return [spelled for part in _split(token, word.split("-")) for spelled in _spelled(part)]
    for ending, meant in _ENDINGS:
        if low.endswith(ending) and len(low) > len(ending):
            return _split(token, [word[: -len(ending)], meant])
    return [token]


def _plain_amounts(tokens: list[Token]) -> list[Token]:
    """One spelling for the number beside a currency or a percent sign; version 5.10 is not version 5.1, nor 007 7."""
    named = {"%", *CURRENCIES.values()}
    around = zip([Token("", False), *tokens], tokens, [*tokens[1:], Token("", False)], strict=False)
    made: list[Token] = []
    for before, token, behind in around:
        value = number(token.text) if "." in token.text and {before.text, behind.text} & named else None
        made.append(token if value is None else Token(f"{value.normalize():f}", token.begins))
    return made


def _split(token: Token, parts: list[str]) -> list[Token]:
    head = parts[0]
    if token.text[0].isupper():
        head = head[0].upper() + head[1:]
    return [Token(head, token.begins), *(Token(part, False) for part in parts[1:])]


def _without_articles(tokens: list[Token]) -> list[Token]:
    """Without articles, *your* and *please*; what comes next then begins the sentence."""
    made: list[Token] = []
    begins = False
    for token, following in pairwise([*tokens, Token("", False)]):
        low = token.text.casefold()
        is_name = token.text[:1].isupper() and not (token.begins or begins)  # plan A, The Dark Knight
        is_article = low in ("a", "an", "the") and following.text.casefold() not in _KEEPS_ARTICLE and not is_name
        is_last = following.text in ("", *MARKS)
        is_named = (token.begins or begins) and following.text.casefold() in _MAY_BE_NAMES
        if is_named or (made and made[-1].text.casefold() in _BEFORE_PLACES):
            is_article = False
            if low == "your" and not is_last and following.text.casefold() not in _KEEPS_ARTICLE:
                token, low = Token("The" if token.text[0].isupper() else "the", token.begins), "the"
        if low == "please" and is_last and made and made[-1].text == ",":
            made.pop()
        if is_article or (low == "please" and made and is_last) or (low in ("your", "please") and not is_last):
            if low == "please" and [t.text.casefold() for t in made[-2:]] in _ASKING:
                made.append(Token("please", False))
            begins |= token.begins
            continue
        made.append(token._replace(begins=token.begins or begins))
        begins = False
    return made


_ASKING = [["could", "you"], ["can", "you"], ["would", "you"]]


def _without_requests(tokens: list[Token]) -> list[Token]:
    """``Could you please wait?`` is ``Wait.``"""
    made: list[Token] = []
    asking = False
    for token in tokens:
        if token.text == "please" and len(made) >= 2 and [t.text.casefold() for t in made[-2:]] in _ASKING:
            if made[-2].begins:
                asking = True
                del made[-2:]
            continue
        begins = asking and (not made or made[-1].text in MARKS)
        made.append(token._replace(begins=token.begins or begins))
        if token.text in (".", "?"):
            if asking and token.text == "?":
                made[-1] = Token(".", True)
            asking = False
    return made


def _without_courtesy(tokens: list[Token]) -> list[Token]:
    """Without the sentences that offer further help and the words that greet."""
    sentences: list[list[Token]] = [[]]
    for token in tokens:
        sentences[-1].append(token)
        if token.text in (".", "?", "\n"):
            sentences.append([])
    kept = [sentence for sentence in sentences if not _COURTESY.fullmatch(_shown(sentence))]
    if kept and _shown(kept[0]) in _FILLERS:
        del kept[0]
    told = [token for sentence in kept for token in sentence]
    comma = next((i for i, token in enumerate(told[:4]) if token.text == ","), None)
    if comma and _shown(told[:comma]) in _FILLERS:
        told = told[comma + 1 :]
        told[:1] = [token._replace(begins=True) for token in told[:1]]
    sorry = next((i for i, token in enumerate(told[:8]) if token.text == "sorry"), None)
    if sorry is not None:
        joint = sorry + 1 + (told[sorry + 1 : sorry + 2] != [] and told[sorry + 1].text == ",")
        if told[joint : joint + 1] and told[joint].text == "but":
            del told[joint]
    return told


def _shown(sentence: list[Token]) -> str:
    while sentence and sentence[-1].text in (*MARKS,):
        sentence = sentence[:-1]
    return " ".join(token.text.casefold() for token in sentence)
