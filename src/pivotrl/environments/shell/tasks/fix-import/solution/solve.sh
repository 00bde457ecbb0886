#!/bin/bash

python3 main.py

ls shop && cat shop/cart.py shop/prices.py

sed -i -e 's/shop.price import/shop.prices import/' -e 's/ in set(names)/ in names/' shop/cart.py && python3 main.py
