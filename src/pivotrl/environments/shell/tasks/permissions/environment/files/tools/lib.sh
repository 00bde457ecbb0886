echo part
