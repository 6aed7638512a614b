# Pure Python: dictionaries, lists, strings, classes, big integers, generators. python.py ROUNDS
import json
import re
import sys


class Vector:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __add__(self, other):
        return Vector(self.x + other.x, self.y + other.y)

    def turned(self):
        return Vector(-self.y, self.x)


def queens(n, row=0, cols=0, up=0, down=0):
    if row == n:
        return 1
    return sum(queens(n, row + 1, cols | b, (up | b) << 1, (down | b) >> 1)
               for b in (1 << c for c in range(n)) if not (cols | up | down) & b)


def words(count):
    seed = 12345
    for _ in range(count):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        yield "w%d" % (seed % 997)


total = 0
for turn in range(int(sys.argv[1])):
    counts = {}
    for word in words(4000):
        counts[word] = counts.get(word, 0) + 1
    best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]
    at = Vector(1, 0)
    for i in range(3000):
        at = at + Vector(i & 3, 1).turned()
    text = json.dumps({"best": best, "list": list(range(200)), "nested": [{"k": str(i)} for i in range(100)]})
    back = json.loads(text)
    hits = len(re.findall(r"[a-z]+\d", text))
    total = (total * 31 + queens(6) + at.x + at.y + hits + len(back["list"]) + 3 ** 200 % 1000007) % (10 ** 40 + 7)
    total += sum(x * 0.5 for x in range(1000)).__int__()
print(total)
