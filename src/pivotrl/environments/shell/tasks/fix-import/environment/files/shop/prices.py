PRICES = {'tea': 5, 'milk': 2}
