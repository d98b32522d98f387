"""A job that only maps: keep paid orders, give amounts a type and a currency, flag large ones.

Nothing is grouped, so nothing is kept between batches and nothing moves between workers. In Redis each order
is a hash `orders:<order id>`; an order that is sent again replaces itself.
"""

import polars as pl

import drizzle_streams as dz

RATES = pl.DataFrame({"currency": ["EUR", "USD", "GBP"], "to_eur": [1.0, 0.92, 1.17]})

orders = dz.stream(
    "orders",
    schema={"order_id": pl.Int64, "status": pl.String, "amount": pl.Float64, "currency": pl.String},
)
clean = (
    orders.filter(pl.col("status") == "paid")
    .join(dz.table(RATES), on="currency")
    .select(
        "order_id",
        "currency",
        amount_eur=(pl.col("amount") * pl.col("to_eur")).round(2),
        large=pl.col("amount") * pl.col("to_eur") >= 1000,
    )
)
job = clean.to(dz.redis("orders", keys=["order_id"])).job("clean-orders", batch_interval="20ms")
