// Objects, typed arrays, strings, closures, regular expressions, JSON. js.js ROUNDS
const rounds = Number(process.argv[2]);
let seed = 12345, total = 0;
const random = n => (seed = Math.imul(seed, 16807) & 0x7fffffff) % n;
class Shape { constructor(a, b) { this.a = a; this.b = b; } area() { return this.a * this.b; } }
class Square extends Shape { area() { return this.a * this.a; } }
class Line extends Shape { area() { return this.a ^ this.b; } }
for (let turn = 0; turn < rounds; turn++) {
  const shapes = [];
  for (let i = 0; i < 3000; i++) { const C = [Shape, Square, Line][random(3)]; shapes.push(new C(random(100), random(100))); }
  for (let k = 0; k < 20; k++) for (const s of shapes) total = (total + s.area()) % 1000003;
  const count = new Map();
  for (let i = 0; i < 10000; i++) { const w = 'w' + random(997); count.set(w, (count.get(w) || 0) + 1); }
  const best = [...count].sort((x, y) => y[1] - x[1] || (x[0] < y[0] ? -1 : 1));
  const text = JSON.stringify(best), back = JSON.parse(text);
  total = (total + back.length + (text.match(/w\d*7/g) || []).length) % 1000003;
  const a = new Float64Array(40000), b = new Int32Array(40000);
  for (let i = 0; i < a.length; i++) { a[i] = (i % 97) * 0.25; b[i] = Math.imul(i, 2654435761) >>> 7; }
  let sum = 0;
  for (let k = 0; k < 10; k++) for (let i = 1; i < a.length; i++) { sum += a[i] * a[i - 1]; total = (total + (b[i] & k)) % 1000003; }
  total = (total + Math.floor(sum)) % 1000003;
  const fib = n => n < 2 ? n : fib(n - 1) + fib(n - 2);
  total = (total + fib(20)) % 1000003;
}
console.log(total);
