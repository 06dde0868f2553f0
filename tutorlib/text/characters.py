"""The simplest tokenizer: every character that a text holds is a token."""

from collections.abc import Iterable

from tutorlib.arguments import check_string, whole_numbers


class CharacterTokenizer:
    """One id for each distinct character of `text`, numbered from 0 in code point order.

    Raises ValueError for an empty text and what is no string, for a character that the text did not hold, and for an id that
    is no whole number or out of range.
    """

    def __init__(self, text: str):
        check_string("text", text)
        if not text:
            raise ValueError("text must hold at least one character, got an empty string")
        self.characters = "".join(sorted(set(text)))
        self._ids = {character: number for number, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """One id a character."""
        check_string("text", text)
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise ValueError(f"text: unknown character {error.args[0]!r}; expected the {len(self)} characters of the text "
                             "that made the tokenizer") from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, which may be a list or a tensor (T,)."""
        numbers = whole_numbers("ids", ids)
        if wrong := [number for number in numbers if not 0 <= number < len(self)]:
            raise ValueError(f"ids: {wrong[0]} is out of range; expected 0 to {len(self) - 1}")
        return "".join(self.characters[number] for number in numbers)
