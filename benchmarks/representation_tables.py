def report(rows): pass
def plot(rows, path): pass
