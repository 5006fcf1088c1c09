"""Generated orders, for a machine without real ones; the same seed gives the same orders."""

from datetime import date, timedelta
from decimal import Decimal
from random import Random

from context_a.services import OrderLine

from .customer_order import CustomerOrder

CUSTOMERS = (
    ("Blåbär & Söner", "Sweden"),
    ("Brasserie du Port", "France"),
    ("Casa Olvera", "Mexico"),
    ("Delikatessen Huber", "Germany"),
    ("Fjordmat", "Norway"),
    ("Hungry Coyote Stores", "USA"),
    ("Köksmästaren", "Sweden"),
    ("La Tienda Blanca", "Spain"),
    ("Magazzini Rossi", "Italy"),
    ("Old World Pantry", "USA"),
    ("Seven Sisters Imports", "UK"),
    ("Zum Goldenen Anker", "Germany"),
)
PRODUCTS = (
    ("Chai", Decimal("18.00")),
    ("Crispbread", Decimal("9.00")),
    ("Geitost", Decimal("2.50")),
    ("Ginger beer", Decimal("4.35")),
    ("Gnocchi", Decimal("38.00")),
    ("Mountain honey", Decimal("21.05")),
    ("Olive oil", Decimal("39.99")),
    ("Smoked herring", Decimal("14.75")),
)
DISCOUNTS = (Decimal(0), Decimal(0), Decimal(0), Decimal("0.05"), Decimal("0.15"), Decimal("0.2"))


def generate_orders(count: int, seed: int) -> list[CustomerOrder]:
    """Generate orders with the ids `demo-<seed>-1` to `demo-<seed>-<count>`.

    The same seed gives the same orders, and a larger count begins with those of a smaller one.
    One in twenty is cancelled; of the others, nine in ten are dispatched.
    """
    return [_generate_order(f"demo-{seed}-{number}", number) for number in range(1, count + 1)]


def _generate_order(order_id: str, number: int) -> CustomerOrder:
    random = Random(order_id)  # noqa: S311  repeatable, not secret
    customer, country = random.choice(CUSTOMERS)
    ordered_on = date(2024, 1, 1) + timedelta(days=random.randrange(366))
    cancelled = number % 20 == 5
    leaves = not cancelled and random.random() < 0.9
    return CustomerOrder(
        order_id=order_id,
        customer=customer,
        country=country,
        lines=tuple(_generate_line(random) for _ in range(random.randint(1, 5))),
        ordered_on=ordered_on,
        required_on=ordered_on + timedelta(days=28),
        shipped_on=ordered_on + timedelta(days=random.randint(1, 20)) if leaves else None,
        cancelled=cancelled,
    )


def _generate_line(random: Random) -> OrderLine:
    product, unit_price = random.choice(PRODUCTS)
    return OrderLine(
        product=product,
        unit_price=unit_price,
        quantity=random.randint(1, 60),
        discount=random.choice(DISCOUNTS),
    )
