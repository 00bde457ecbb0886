CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE orders (customer INTEGER, amount REAL, state TEXT);
INSERT INTO customers VALUES (1, 'Ada'), (2, 'Ben'), (3, 'Cleo');
INSERT INTO orders VALUES (1, 30, 'paid'), (1, 80, 'cancelled'), (2, 25, 'paid'), (2, 20, 'sent'), (3, 44, 'paid'), (3, 0.5, 'paid');
