"""Secrets in commands and texts: which values are masked.

Used inside recorded programs and by the orchestrator. Needs only the standard library and Python
3.9. The words of a name decide whether it is secret: `--api-key`, `HF_TOKEN` and `dbPassword` are,
`--max-tokens`, `--tokenizer`, `--key-dim` and `--eos-token` are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

MASK = "MASKED"  # needs no quotes in a shell and no escapes in a report
SHORTEST = 6  # characters of a value that is also masked in other texts


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A name with one of these words is secret, unless it ends with a word of ATTRIBUTES.
SECRET = _words(
    "secret secrets password passwords passwd passphrase passcode passkey pwd credential"
    " credentials cred creds apikey apikeys authkey secretkey privatekey accesskey jwt bearer"
    " authorization cookie cookies"
)
SECRET_ENDS = ("password", "passwd", "passphrase", "secret", "apikey")  # as in PGPASSWORD
TOKEN = re.compile(
    r"(access|api|auth|bearer|bot|csrf|gh|github|gitlab|hf|id|oauth|refresh|session|slack|user"
    r"|wandb)token"
)
# A name that ends with one of these words is secret, unless a word of HARMLESS is before it.
LAST = {
    "key": _words(
        "action audio block cache caption checkpoint ckpt class column config d data dataset dict"
        " dim embed embedding ema feature features field foreign from group hash head heads hot"
        " id image index input join json key kv label loss map metric model monitor n num obs"
        " order output params partition per primary prng prompt public query random reward rng"
        " row shard size sort split state step target text to value video vocab"
        " attention eval img mem q score seq slot task train txt"
    ),
    "token": _words(
        "begin bos blank boundary by class cls end eos first image instance initializer last mask"
        " max min n new next num pad padding per placeholder prompt query register sep single sos"
        " space special start stop sub system text think trigger unk unknown video visual word"
        " audio assistant clip eot subword"
    ),
    "auth": _words(""),
    "oauth": _words(""),
    "pass": _words(
        "backward backwards first forward last max min multi n nth num one per second single"
        " third two"
    ),
}
# A personal access token, only of these services.
PAT = _words("ado azure devops gh git github gitlab")
# Two consecutive words, anywhere in a name.
PAIRS = frozenset(
    tuple(pair.split("-"))
    for pair in _words(
        "access-key access-token account-key api-key api-keys api-token api-tokens auth-key"
        " auth-token auth-tokens access-tokens bearer-token bot-token client-key deploy-key"
        " encryption-key gh-token github-token gitlab-token hf-token license-key master-key"
        " private-key refresh-token secret-key service-key session-key session-token shared-key"
        " signing-key ssh-key wandb-key"
    )
)
# The value is not secret if the name ends with one of these: --password-file, --api-key-name.
ATTRIBUTES = _words(
    "backend column count dim dir dirs enabled env error expiry field file files folder jar len"
    " length manager max min mode name names num path paths policy prompt provider required size"
    " store timeout ttl type var variable"
)
# A name that begins with one of these is a switch or a count: --no-password, --num-secrets.
SWITCHES = _words(
    "allow ask check disable enable has hide ignore is max min n no num require show skip total"
    " verify with without"
)
# A name and a password follow these: -u bob:secret, but not the numbers of a user and a group.
LOGINS = _words("-u --user --login --userpass")
PLAIN = frozenset(("", "true", "false", "none", "null", "yes", "no", "on", "off", "auto"))
# Words of a sentence after the name of an option, which are not values.
SENTENCE = _words(
    "and argument arguments are be by can cannot could does for from has if in is it must needs not"
    " of on option options or requires should that the to was were when which will with"
)
# Also secret in the query of an address: ?sig=…
QUERY = _words("sig signature x-amz-signature x-amz-credential x-goog-signature")

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NAME = r"[A-Za-z_][\w.-]{0,80}"
_OPTION_WORD = re.compile(rf"--?({_NAME})")
_LOGIN_WORD = re.compile(r"([^\s:/@=-][^\s:/@=]*:)(?!\d+$|MASKED)([^\s/\\:].*)")
_PAIR_WORD = re.compile(rf"((?:-[A-Za-z]|-{{1,2}}|\+{{1,2}})?({_NAME})=)(.*)", re.DOTALL)
# The text before a value.
_OPTION = re.compile(rf"(?<![\w.-])--?(?P<name>{_NAME})\s+(?!-)")
_PAIR = re.compile(rf"(?<![\w.])(?:-[A-Za-z])?(?P<dashes>-{{0,2}})(?P<name>{_NAME})\s?=\s?")
_QUERY = re.compile(rf"[?&](?P<name>{_NAME})=")
_FIELD = re.compile(
    rf"(?<![\w./])(?P<quote>[\"']?)(?P<name>{_NAME})(?P=quote)\s*:(?:\s+|(?<=[\"']:)|(?<=[\"'] :))"
)
_VALUE = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s\"'`<>]+")
_QUERY_VALUE = re.compile(r"[^\s\"'`<>&#;,]+")
_HEADER = re.compile(
    r"(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)"
    r"(?:(?:bearer|basic|digest|token|apikey) +)?([^\s\"',]+)",
    re.IGNORECASE,
)
# A login in an address; with some schemes, such as git's, a name without a password is a login.
_LOGIN = re.compile(
    r"(\b[A-Za-z][A-Za-z0-9+.-]{0,20}://)[^\s/:@\"'`<>]*:(?!\d+(?:[/?#\s]|$))[^\s\"'`<>]*@"
    r"|(\b(?:https?|ftps?|git\+https?)://)[^\s/:@\"'`<>]+@"
)
_LOGIN_OPTION = re.compile(
    r"((?<![\w-])(?:-u|--user|--login|--userpass)[ =][^\s:/@=-][^\s:/@=]*:)"
    r"(?!\d+(?!\S)|MASKED)([^\s\"'/\\:]\S*)"
)
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?<!-)sk-(?!learn)(?:(?=[\w-]*[\dA-Z])[\w-]{8,}|[a-z]{16,})"  # OpenAI, Anthropic and the like
    r"|[prs]k_(?:live|test)_\w{8,}|whsec_\w{16,}"  # Stripe
    r"|gh[opsur]_\w{10,}|github_pat_\w{10,}|glpat-[\w-]{10,}"
    r"|hf_(?:[A-Za-z0-9]{30,}|(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{16,})"
    r"|(?:AKIA|ASIA)[A-Z0-9]{12,}"  # AWS
    r"|xox[abeoprs]-[\w-]{8,}|xapp-[\w-]{8,}"  # Slack
    r"|AIza[\w-]{30,}|ya29\.[\w-]{20,}"  # Google
    r"|nvapi-[\w-]{16,}|r8_\w{30,}|gsk_\w{20,}|npm_\w{30,}|pypi-[\w-]{40,}|dop_v1_\w{32,}"
    r"|eyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?"  # a JSON Web Token
    r"|\d{8,10}:[\w-]{33,}"  # Telegram
    r")"
)
_BEARER = re.compile(r"\b([Bb]earer\s+)(?!auth|token|MASKED)([\w.~+/=-]{6,})")
_WEBHOOK = re.compile(
    r"(\bhooks\.slack\.com/services/|\bdiscord(?:app)?\.com/api/webhooks/)([\w/-]+)"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)


def is_secret(name: str) -> bool:
    """Whether the value of an option or variable with this name must be masked."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if name == "PWD":  # the working folder
        return False
    if not words or words[-1] in ATTRIBUTES or (len(words) > 1 and words[0] in SWITCHES):
        return False
    if any(w in SECRET or w.endswith(SECRET_ENDS) or TOKEN.fullmatch(w) for w in words):
        return True
    if words[-2:] == ["key", "id"]:
        return words[-3:-2] in (["access"], ["api"], ["secret"])
    return _ends_secret(words) or any(pair in PAIRS for pair in zip(words, words[1:]))  # noqa: B905, RUF007 - Python 3.9


def _ends_secret(words: list[str]) -> bool:
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last == "pat":
        return before in PAT
    harmless = LAST.get(last)
    return harmless is not None and before not in harmless


def masked_words(words: Sequence[str]) -> list[str]:
    """The words of a command, with the values of secret options and variables masked."""
    return [word for word, _ in _split(words)]


def secret_values(words: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """The secret values of a command and its variables, longest first.

    Short values are skipped, since they may be part of any text.
    """
    secrets = {value for _, values in _split(words) for value in values}
    secrets |= {value for name, value in variables.items() if is_secret(name)}
    long = [value for value in secrets if len(value) >= SHORTEST and not _is_plain(value)]
    return sorted(long, key=lambda value: (-len(value), value))


def _split(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each word after masking, and the secrets in it."""
    expected = False  # whether the previous word is an option with a secret value
    before = ""
    for word in words:
        option = _OPTION_WORD.fullmatch(word)
        login = _LOGIN_WORD.fullmatch(word) if before in LOGINS else None
        before = word
        if login is not None:
            yield login.group(1) + MASK, [login.group(2)]
            continue
        if expected and option is None and not _is_plain(word):
            expected = False
            yield MASK, [word]
            continue
        expected = option is not None and is_secret(option.group(1))
        pair = _PAIR_WORD.fullmatch(word)
        if pair is None or not is_secret(pair.group(2)):
            values: list[str] = []
            yield masked(word, values), values
        elif _is_plain(pair.group(3)):
            yield word, []
        else:
            yield pair.group(1) + MASK, [pair.group(3)]


def masked(text: str, values: list[str] | None = None) -> str:
    """Mask the secrets of a text: values of secret names, logins in addresses, well-known shapes.

    The masked values are added to `values`; for an address, the password.
    """
    values = [] if values is None else values

    def address(match: re.Match[str]) -> str:
        scheme = match.group(1) or match.group(2)
        login = match.group()[len(scheme) : -1]
        values.append(login.partition(":")[2] or login)
        return f"{scheme}{MASK}@"

    def value_only(match: re.Match[str]) -> str:
        values.append(match.group(2))
        return f"{match.group(1)}{MASK}"

    def whole(match: re.Match[str]) -> str:
        values.append(match.group())
        return MASK

    text = _PRIVATE_KEY.sub(whole, text)
    text = _LOGIN.sub(address, text)
    text = _LOGIN_OPTION.sub(value_only, text)
    text = _HEADER.sub(value_only, text)
    text = _BEARER.sub(value_only, text)
    text = _WEBHOOK.sub(value_only, text)
    text = _SHAPES.sub(whole, text)
    for start, value, hides in _NAMED:
        text = _masked_after(text, start, value, hides, values)
    return text


def _masked_after(
    text: str,
    start: re.Pattern[str],
    value: re.Pattern[str],
    hides: Callable[[re.Match[str], str], bool],
    values: list[str],
) -> str:
    """Mask the value after each match of `start` for which `hides` is true."""
    parts, position = [], 0
    while (before := start.search(text, position)) is not None:
        parts.append(text[position : before.end()])
        position = before.end()
        name = before.group("name")
        may_hide = is_secret(name) or name.lower() in QUERY
        match = value.match(text, position) if may_hide else None
        if match is None:
            continue
        word = match.group()
        if word[0] in "\"'":
            quote, bare = word[0], word[1:-1]
        else:
            quote, bare = "", word.rstrip(",;:.)]}")
        if not _is_plain(bare) and hides(before, bare):
            parts.append(f"{quote}{MASK}{quote}")
            values.append(bare)
            position += len(bare) + 2 * len(quote)
    return "".join([*parts, text[position:]])


def _hides_option(before: re.Match[str], value: str) -> bool:
    return is_secret(before.group("name")) and value.lower() not in SENTENCE


def _hides_pair(before: re.Match[str], value: str) -> bool:
    name = before.group("name")
    if name.lower() == "key" and not before.group("dashes"):
        return _is_random(value)  # not in sorted(names, key=len)
    return is_secret(name)


def _hides_field(before: re.Match[str], value: str) -> bool:
    name = before.group("name")
    if name.lower() in LAST:
        return _is_random(value)
    return is_secret(name) and value.lower() not in SENTENCE


_NAMED: tuple[tuple[Any, Any, Callable[[Any, str], bool]], ...] = (
    (_OPTION, _VALUE, _hides_option),
    (_QUERY, _QUERY_VALUE, lambda _before, _value: True),
    (_PAIR, _VALUE, _hides_pair),
    (_FIELD, _VALUE, _hides_field),
)


def _is_plain(value: str) -> bool:
    """Whether the value is not secret: a truth value, a variable's name, or already masked."""
    return value.lower() in PLAIN or value.startswith(("$", MASK))


def _is_random(value: str) -> bool:
    return len(value) >= 16 and any(c.isdigit() for c in value)


def without_values(text: str, values: Sequence[str]) -> str:
    """Mask each of these values in a text unless it is part of a longer word."""
    for value in values:
        if value in text:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, text)
    return text


def encodable(text: str) -> str:
    r"""The text in valid UTF-8: a byte that cannot be decoded is written as `\xff`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", lambda match: _byte(ord(match.group())), text)
    return text


def _byte(code: int) -> str:
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
