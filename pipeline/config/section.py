"""What every section of the config shares."""

from typing import Any, get_origin

from annotated_types import MinLen
from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """One section of the config: it accepts no other keys and can't be changed."""

    # Some inputs hold a password; an error that escapes must not show them.
    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_default(cls, data: Any) -> Any:
        """A section, a list or a mapping with nothing in it, as after ``events:``, is its default.

        Not the cameras: where somebody has taken out all of them, nobody waits for the demo.
        """
        if not isinstance(data, dict):
            return data
        empty = {name for name, value in data.items() if value is None and cls._may_be_empty(name)}
        return {name: value for name, value in data.items() if name not in empty}

    @classmethod
    def _may_be_empty(cls, name: str) -> bool:
        field = cls.model_fields.get(name)
        if field is None or any(isinstance(bound, MinLen) for bound in field.metadata):
            return False
        return isinstance(field.default, Section) or get_origin(field.annotation) in (dict, list)
