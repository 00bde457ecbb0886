from shop.price import PRICES


def total(names):
    return sum(PRICES[name] for name in set(names))
