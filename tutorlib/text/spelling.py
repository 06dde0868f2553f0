"""Letters as a recognizer writes them: a blank, which is 0 and spells nothing, a space, and a to z."""

from collections.abc import Iterable

from tutorlib.arguments import check_string, whole_numbers

LETTERS = " abcdefghijklmnopqrstuvwxyz"  # numbered from 1


def encode_letters(text: str) -> list[int]:
    """One id a character, from 1 to 27; capitals count as small letters. Raises ValueError for any other character."""
    check_string("text", text)
    text = text.lower()
    if wrong := [character for character in text if character not in LETTERS]:
        raise ValueError(f"text must have letters a to z and spaces only, got {wrong[0]!r} in {text[:40]!r}")
    return [LETTERS.index(character) + 1 for character in text]


def decode_letters(ids: Iterable[int]) -> str:
    """The text of ids from 1 to 27. Raises ValueError for others."""
    numbers = whole_numbers("ids", ids)
    if wrong := [number for number in numbers if not 1 <= number <= len(LETTERS)]:
        raise ValueError(f"ids must be from 1 to {len(LETTERS)}, got {wrong[0]}")
    return "".join(LETTERS[number - 1] for number in numbers)
