-- The bench table: :rows rows, 14 columns of mixed types, the same rows each
-- time. 5,000,000 rows are about 1.1 GiB as COPY binary. By psql:
--   psql -v rows=5000000 -f benches/bench-table.sql postgres://...
drop table if exists public.orders;
create table public.orders (
  id bigint primary key,
  customer_id int not null,
  status text not null,
  email text not null,
  note text,
  amount numeric(12,2) not null,
  qty int not null,
  price float8 not null,
  paid bool not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  ship_date date,
  uid uuid not null,
  attrs jsonb
);
insert into public.orders
select
  i,
  (i * 7919 % 1000003)::int,
  (array['new', 'paid', 'packed', 'shipped', 'returned'])[1 + i % 5],
  'user' || (i * 7919 % 1000003) || '@example.com',
  case when i % 4 = 0 then null
       else md5(i::text) || ' ' || md5((i + 1)::text) end,
  ((i * 104729 % 1000000007) / 100.0)::numeric(12,2),
  (i % 17)::int,
  i * 1.0001 / 7,
  i % 3 = 0,
  timestamptz '2020-01-01 00:00:00+00' + i * interval '17 seconds' + (i % 1000000) * interval '1 microsecond',
  timestamptz '2020-01-02 00:00:00+00' + i * interval '17 seconds' + (i * 31 % 1000000) * interval '1 microsecond',
  case when i % 5 = 0 then null else date '2020-01-01' + (i % 2000)::int end,
  md5('uid' || i)::uuid,
  case when i % 3 = 0 then null
       else jsonb_build_object('k', i % 100, 'tag', 'tag' || (i % 50), 'w', i / 8.0) end
from generate_series(1, :rows::bigint) i;
create index orders_updated_at on public.orders (updated_at);
analyze public.orders;
