"""What models cost, as the table of prices says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from supabase import AsyncClient

from pythonic_assistant.adapters.store.calls import call
from pythonic_assistant.domain.errors import StoreUnavailableError
from pythonic_assistant.domain.price import Price

_COLUMNS = (
    "model,input_per_million,cached_input_per_million,cache_write_per_million,output_per_million,"
    "long_from_tokens,long_input_factor,long_output_factor"
)
_prices = TypeAdapter(Price)


class SupabasePrices:
    """For workers and signed-in people."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def current(self) -> Mapping[str, Price]:
        """Return the prices of today by the models' names.

        Raises:
            StoreUnavailableError: no answer, or one of another version.
            InvalidInputError: the database refuses.
        """
        reply: Any = await call(
            "read the prices", self._client.table("current_prices").select(_COLUMNS).execute()
        )
        try:
            return {row.pop("model"): _prices.validate_python(row) for row in reply.data}
        except ValidationError as error:
            raise StoreUnavailableError(
                "The table of prices is of another version than this worker."
            ) from error
