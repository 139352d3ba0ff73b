// `vxmesh service`: its flags reach the agent with their meaning, and what it answers is shown.

import t from 'tap'
import { MAX_BACKENDS } from '#model/service.ts'
import { attach } from '../allocator/fixtures.ts'
import { served, vx } from './vx.ts'

t.test('services are created, listed, changed and deleted', async t => {
  const { agent, env } = await served(t)
  agent.caller.raise()
  const run = async (line: string): Promise<string> => {
    const { code, out, err } = await vx(line.split(' '), { env })
    t.equal(code, 0, `${line}: ${err}`)
    return out
  }
  agent.caller.do(attach('red', 'c1', { labels: { app: 'web', tier: 'front' } }))
  await run('network create both --subnet 10.2.0.0/24 --subnet fd00:2::/64')
  const create = 'service create web --network red --port 80:8080 --port 53/udp --select app=web --select tier'
  t.equal(
    await run(`${create} --affinity 60`),
    [
      ...['name       web', 'network    red', 'address    10.1.0.3', 'port       80:8080/tcp', 'port       53:53/udp'],
      ...['select     app=web', '           tier', 'affinity   60 s', 'endpoints  1'],
      ...['note       not reached on h1: driver linux, guard nft: no eBPF programs', '']
    ].join('\n')
  )
  const db = 'service create db --network both --port 1/sctp --ip fd00:2::9 --ip 10.96.0.10 --backend 10.2.0.9'
  t.match(
    await run(db),
    /\naddress +10\.96\.0\.10\naddress +fd00:2::9\n[^]*\nbackends +10\.2\.0\.9\n[^]*\nendpoints +0\n/
  )
  t.match(await run('service create all --network both --headless --select app'), /\naddress +none: headless\n/)
  const list = await run('service list')
  t.match(list, /^NETWORK +NAME +ADDRESS +PORTS +BACKENDS +ENDPOINTS\nboth +all +- +app +0\n/)
  t.match(list, /\nred +web +10\.1\.0\.3 +80:8080\/tcp 53:53\/udp +app=web tier +1\n$/)
  t.same(
    (JSON.parse(await run('service list --network red -o json')) as { name: string }[]).map(({ name }) => name),
    ['web']
  )
  t.match(await run('service show web --network red'), /\nnote +not reached on h1: driver linux, guard nft/)
  t.match(await run('service update web --network red --backend 10.1.0.2 --port 80'), /\nbackends +10\.1\.0\.2\n/)
  t.same(JSON.parse(await run('service show web --network red -o json')), {
    ...{ network: 'red', name: 'web', addresses: ['10.1.0.3'], affinitySeconds: 60, select: null },
    ...{ ports: [{ protocol: 'tcp', port: 80, targetPort: 80 }], backends: ['10.1.0.2'], endpoints: 1 }
  })
  t.equal(await run('service delete web --network red'), 'service web of network red deleted\n')
  t.match(await vx('service show web --network red'.split(' '), { env }), { code: 4, err: /ERR_SERVICE_NOT_FOUND/ })
  t.match(await vx('service delete web --network red'.split(' '), { env }), { code: 4, err: /ERR_SERVICE_NOT_FOUND/ })
  t.match(await vx('service list --network none'.split(' '), { env }), { code: 4, err: /ERR_NETWORK_NOT_FOUND/ })
  t.match(await vx(create.replace('web', 'x').concat(' --ip 10.1.0.2').split(' '), { env }), {
    ...{ code: 5, err: /address: 10\.1\.0\.2 belongs to container c1 \[ERR_ADDRESS_IN_USE\]/ }
  })
  t.match(await vx('network delete both'.split(' '), { env }), { code: 5, err: /network both has 2 services/ })
})

t.test('a service that chooses more endpoints than get connections says so', async t => {
  const { agent, env } = await served(t)
  agent.caller.raise()
  const run = async (line: string): Promise<string> => (await vx(line.split(' '), { env })).out
  await run('network create large --subnet 10.9.0.0/22')
  for (let n = 0; n < MAX_BACKENDS; n++) agent.caller.do(attach('large', `c${n}`, { labels: { app: 'web' } }))
  await run('service create web --network large --port 80 --select app=web')
  await run('service create all --network large --headless --select app=web')
  t.match(await run('service show web --network large'), /\nendpoints +250\n/)
  agent.caller.do(attach('large', 'late', { labels: { app: 'web' } }))
  t.match(await run('service show web --network large'), /\nendpoints +251, 250 in use\n/)
  t.match(await run('service list'), / app=web +251, 250 in use\n$/)
  t.match(await run('service show all --network large'), /\nendpoints +251\n$/, 'a name has no limit')
  t.match(JSON.parse(await run('service show web --network large -o json')), { endpoints: 251 })
})

t.test('before every host knows services, they are refused in words', async t => {
  const { env } = await served(t)
  t.match(await vx('service create web --network red --port 80 --select app=web'.split(' '), { env }), {
    ...{ code: 1, err: /services need every host of the cluster to know them.*\[ERR_UNSUPPORTED\]/ }
  })
})

const CREATE = 'service create web --network red'
for (const [line, words] of [
  ['service create web --port 80 --select a', /required option '--network <name>'/],
  ['service create --network red --port 80 --select a', /missing required argument 'name'/],
  [`${CREATE} --port 80`, /give either --select or --backend/],
  [`${CREATE} --port 80 --select a --backend 10.1.0.2`, /give either --select or --backend/],
  [`${CREATE} --port http --select a`, /--port: must be PORT\[:TARGET\]\[\/PROTOCOL\], got "http"/],
  [`${CREATE} --port 0 --select a`, /--port: a port must be a whole number from 1 to 65535/],
  [`${CREATE} --port 80/icmp --select a`, /--port: the protocol must be tcp, udp, sctp/],
  [`${CREATE} --port 80 --select a_/b`, /--select: the prefix of a key must be/],
  [`${CREATE} --port 80 --backend web:80`, /--backend: must be/],
  [`${CREATE} --port 80 --select a --affinity 1m`, /--affinity: must be a whole number from 0 to 86400/],
  [`${CREATE} --port 80 --select a --ip 10.1.0.2 --ip 10.1.0.3`, /--ip: may be given once for each family/],
  ['service create Web --network red --port 80 --select a', /NAME: must be 1 to 63 lower-case/],
  ['service update web --network red', /give at least one of --port, --select, --backend, --affinity/],
  ['service update web --network red --select a --backend 10.1.0.2', /give either --select or --backend/],
  ['service show ../x --network red', /NAME: must be/]
] as const) {
  t.test(`refused before anything is sent: ${line}`, async t => {
    const { code, out, err } = await vx(line.split(' '))
    t.same([code, out], [2, ''])
    t.match(err, words)
  })
}
