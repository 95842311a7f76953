"""What a sandbox needs before it can serve: schema, agreed documents, keys, demo credentials. Safe to run again."""

from gateway.database import Database
from gateway.database.migrate import migrate
from gateway.keyring import Keyring, read_kek
from gateway.settings import Settings


async def provision(settings: Settings) -> None:
    """Migrate, make keys, apply partners/ and policies/, write the sandbox's credentials."""
    migrate(settings.database_url)
    database = await Database.connect(settings.database_url, pool_size=2)
    try:
        keyring = Keyring(read_kek(settings.home_path, make=settings.sandbox))
        async with database.transaction() as conn:
            await keyring.ensure(conn)
    finally:
        await database.close()
