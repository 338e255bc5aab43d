"""Tells people's clients the key to which new secrets are sealed."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from pythonic_assistant.adapters.secrets.keyring import WorkerKey
from pythonic_assistant.adapters.store.supabase_secrets import SupabaseSecrets
from pythonic_assistant.domain.errors import InvalidInputError, StoreUnavailableError

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS: Final = 30.0


async def publish(store: SupabaseSecrets, key: WorkerKey) -> None:
    """Publish the worker's public key once, as soon as the database answers."""
    wait = 0.5
    while True:
        try:
            await store.publish(key.key_id, key.public_key)
        except StoreUnavailableError as error:
            log.warning("key not published yet", extra={"action": "publish_key", "reason": str(error)})
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)
        except InvalidInputError:
            # Tasks without secrets run all the same.
            log.exception("key refused", extra={"action": "publish_key_refused", "key_id": key.key_id})
            return
        else:
            log.info("key published", extra={"action": "key_published", "key_id": key.key_id})
            return
