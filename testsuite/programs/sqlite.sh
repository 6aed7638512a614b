# sqlite3: floats, aggregates, window functions, full text, JSON, R-trees, recursive queries, and the file at the end.
sqlite3 file.db <<'END'
.mode list
pragma journal_mode=off; pragma synchronous=off;
select sqlite_version();
create table numbers(id integer primary key, n integer, x real, t text);
with recursive c(i, s) as (select 1, 12345 union all select i+1, (s*1103515245+12345) % 2147483648 from c where i < 30000)
insert into numbers select i, s, s/7.0-1e8, printf('%x-%o-%.9g', s, i, s/3.0) from c;
create index by_x on numbers(x); create index by_t on numbers(t);
select count(*), sum(n), total(x), avg(x), min(t), max(t), sum(x*x)/count(*) from numbers;
select n%13, count(*), avg(x), group_concat(id, ',') from (select * from numbers where id % 997 = 3) group by 1 order by 2 desc, 1;
select typeof(x), round(x, 3), cast(x as integer), x/0, x%7, abs(x), printf('%.15g|%!.20g|%e', x, x, x) from numbers where id % 4999 = 1;
select 0.1+0.2, 1e308*10, -1e308*10, 9223372036854775807+1, 1/3.0, 2.5e-320, cast('1.7976931348623157e308' as real), 0.1=1e-1, 1.0e15+0.3, 123456789012345680.0;
select sqrt(2), exp(1), ln(10), log(2,1024), pow(1.1,77), sin(1e3), atan2(1,-1), mod(7.5,2), ceil(-2.5), pi(), degrees(1), acosh(2), tanh(.3);
select id, sum(x) over w, avg(n) over w, rank() over (order by n%100), ntile(7) over (order by x), lag(x,2) over (order by id), first_value(t) over w
  from numbers where id <= 300 window w as (order by id rows between 5 preceding and 3 following);
select sum(r), max(d) from (select percent_rank() over (order by t) as r, dense_rank() over (partition by n%11 order by x) as d from numbers);
create virtual table words using fts5(body);
insert into words select t || ' calque ' || (n%50) || ' ' || substr(t, 3, 4) from numbers where id <= 8000;
select count(*) from words where words match 'calque NEAR 7'; select rowid, bm25(words), snippet(words,0,'[',']','.',5) from words where words match '17 OR 23' order by bm25(words), rowid limit 12;
create virtual table old using fts4(a); insert into old select t from numbers where id < 3000; select quote(matchinfo(old)) from old where old match 'a*' limit 20;
create virtual table boxes using rtree(id, x0, x1, y0, y1);
insert into boxes select id, x/1e6, x/1e6+id%9, n/1e7, n/1e7+3.5 from numbers where id <= 5000;
select count(*), sum(x0), sum(y1) from boxes where x0 > 10 and x1 < 60 and y0 between 20 and 90;
select json_group_array(json_object('id', id, 'x', x, 't', t)) from numbers where id % 7001 = 5;
select key, value, type from json_each('{"a":1.5e-7,"b":[1,2,{"c":null}],"d":"\u00e9","e":1e400,"f":-0.0}'); select json_extract('[1,[2.5,{"k":"v"}]]', '$[1][1].k'), json_patch('{"a":1}','{"b":2}');
with recursive m(cx, cy, x, y, i) as (select a.v, b.v, 0.0, 0.0, 0 from (select value*0.05-2 as v from generate_series(0,60)) a, (select value*0.1-1 as v from generate_series(0,20)) b
  union all select cx, cy, x*x-y*y+cx, 2*x*y+cy, i+1 from m where x*x+y*y < 4 and i < 24)
select sum(i), total(x), total(y) from (select max(i) as i, x, y from m group by cx, cy);
select hex(zeroblob(3)), quote(x'00ff'), instr(t,'7'), replace(t,'-','+'), upper(t), unicode('é'), like('a%','Abc'), t glob '*[0-3]-*' from numbers where id = 77;
select date('2000-02-29','+1 year'), julianday('1999-12-31 23:59:59.999'), strftime('%J %W %s', '2026-11-28 10:20:30.5'), datetime(1e9,'unixepoch');
update numbers set x = x * 1.0000001 where id % 3 = 0; delete from numbers where n % 17 = 4; vacuum;
select count(*), total(x) from numbers; pragma integrity_check;
select a.id, b.id from numbers a join numbers b on b.id = a.n % 30000 where a.id < 40 order by a.x;
.sha3sum
END
sqlite3 file.db .dump | sha256sum
head -c 24 file.db | od -c | head -n 1
