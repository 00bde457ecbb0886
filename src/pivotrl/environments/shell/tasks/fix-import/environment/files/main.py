from shop.cart import total

print('total', total(['tea', 'milk', 'tea']))
