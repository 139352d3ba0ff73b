// Names with real agents: dig and getent in containers, both families, right after the acknowledgement, across an agent's end, isolated
// from other networks, forwarded to an upstream resolver, and under a flood.

import t from 'tap'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { EndpointView } from '#model/views.ts'
import { buildPlugin } from '../cni/plugin.ts'
import { addPod } from '../lab/cni-runtime.ts'
import { bare, type LabContainer } from '../lab/container.ts'
import type { LabHost } from '../lab/host.ts'
import type { Asked } from '../lab/dns-client.ts'
import { JsonProcess } from '../lab/json-process.ts'
import { must } from '../lab/kernel.ts'
import { Lab } from '../lab/lab.ts'
import { routersOf } from '../lab/routers.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'

t.setTimeout(TEST_TIMEOUT_MS)

const UPSTREAM_PORT = 5301
const MILLION_A_MINUTE = 16_667
const CHURNS = 50
const script = (name: string): string => join(import.meta.dirname, '../lab', name)

async function dig(from: LabContainer, ...args: string[]): Promise<string> {
  return (await from.exec('dig', '+tries=1', '+time=3', ...args)).stdout
}

/** The data of the answers. */
async function short(from: LabContainer, ...args: string[]): Promise<string[]> {
  return (await dig(from, '+short', ...args)).split('\n').filter(line => line !== '')
}

async function statusOf(from: LabContainer, ...args: string[]): Promise<string> {
  return /status: (\w+)/.exec(await dig(from, ...args))?.[1] ?? 'none'
}

function p99({ tookMs }: Asked): string {
  const sorted = tookMs.toSorted((a, b) => a - b)
  return (sorted[Math.floor(sorted.length * 0.99)] ?? NaN).toFixed(2)
}

async function attach(host: LabHost, container: LabContainer, network: string, name = ''): Promise<EndpointView> {
  const where = ['--network', network, '--container-id', container.name, '--netns', container.netns]
  return host.cliJson<EndpointView>('endpoint', 'attach', ...where, ...(name === '' ? [] : ['--name', name]))
}

t.test('the names of a network', { skip: cannotRun() }, async t => {
  await buildPlugin()
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const upstreams = [`127.0.0.1:${UPSTREAM_PORT}`]
  const [h1, h2] = await lab.addServerAndClient({ dns: { upstreams, search: ['corp.example'] } })
  for (const [name, ...subnets] of [
    ['red', '10.1.0.0/24', 'fd00:1::/64'],
    ['blue', '10.1.0.0/24'],
    ['six', 'fd00:6::/64']
  ])
    await h1.api.call('POST', '/v1/networks', { name, subnets })
  await h1.api.call('POST', '/v1/networks', { name: 'shut', subnet: '10.3.0.0/24', egress: false, hostAccess: true })
  await h1.api.call('POST', '/v1/networks', { name: 'bare', subnet: '10.4.0.0/24', egress: false })
  await waitFor('h2 knows the networks', async () => (await h2.api.list('/v1/networks')).length === 5)
  const [web, db, other, alone, mute] = (await lab.containers(['web', 'db', 'other', 'alone', 'mute'])) as [
    LabContainer,
    LabContainer,
    LabContainer,
    LabContainer,
    LabContainer
  ]
  const one = await attach(h1, web, 'red', 'shop')
  const [v4 = '', v6 = ''] = one.addresses.map(bare)
  t.strictSame(
    one.dns,
    { nameservers: one.gateways, search: ['red.vxmesh', 'corp.example'] },
    'an attach tells the resolver'
  )
  const [at4 = '', at6 = ''] = one.gateways

  await t.test('are there right after the acknowledgement, in both families', async t => {
    for (const gateway of [at4, at6]) {
      t.same(await short(web, `@${gateway}`, 'shop.red.vxmesh', 'A'), [v4], `A, asked at ${gateway}`)
      t.same(await short(web, `@${gateway}`, '+tcp', 'SHOP.Red.vxMesh', 'AAAA'), [v6], `AAAA by TCP, at ${gateway}`)
      for (const address of [v4, v6])
        t.same(await short(web, `@${gateway}`, '-x', address), ['shop.red.vxmesh.'], `PTR of ${address}`)
    }
    t.same(await short(web, `@${at4}`, 'web.red.vxmesh'), [v4], 'a container id is a name, too')
    const two = await attach(h2, db, 'red', 'db')
    t.same(await short(db, `@${at4}`, 'db.red.vxmesh'), [bare(two.address)], 'on its own host at once')
    t.same(await short(db, `@${at4}`, 'shop.red.vxmesh'), [v4], 'and the name of a container of another host')
    await waitFor('h1 has applied the attach', async () => (await short(web, `@${at4}`, 'db.red.vxmesh')).length === 1)
    await h2.detach(db)
    t.equal(
      await statusOf(db, `@${at4}`, 'db.red.vxmesh').catch(() => 'none'),
      'none',
      'a detached container has no resolver'
    )
  })

  await t.test('are never stale while containers come and go', async t => {
    const client = await JsonProcess.start(web.namespace, script('dns-client.ts'), [at4, ''])
    t.teardown(() => client.stop())
    const wrong: unknown[] = []
    for (let n = 0; n < CHURNS; n++) {
      const { address } = await attach(h1, db, 'red', `n${n % 3}`)
      const there = await client.ask({ resolve: `n${n % 3}.red.vxmesh` })
      await h1.detach(db)
      const gone = await client.ask({ resolve: `n${n % 3}.red.vxmesh` })
      if (JSON.stringify([there, gone]) !== JSON.stringify([[bare(address)], null]))
        wrong.push([n, address, there, gone])
    }
    t.same(wrong, [], `${CHURNS} times`)
  })

  await t.test('of other networks do not exist', async t => {
    const blue = await attach(h1, other, 'blue', 'secret')
    t.same(await short(other, `@${blue.gateway}`, 'secret.blue.vxmesh'), [bare(blue.address)])
    for (const name of ['secret.blue.vxmesh', 'blue.vxmesh', 'nobody.red.vxmesh', 'nobody.nowhere.vxmesh'])
      t.equal(await statusOf(web, `@${at4}`, name), 'NXDOMAIN', name)
    t.equal(await statusOf(other, `@${blue.gateway}`, 'shop.red.vxmesh'), 'NXDOMAIN')
    t.same(
      await short(other, `@${blue.gateway}`, '-x', bare(blue.address)),
      ['secret.blue.vxmesh.'],
      'subnets may overlap'
    )
  })

  await t.test('are found by getent, by short names, from resolv.conf', async t => {
    const etc = `/etc/netns/${web.namespace}`
    await mkdir(etc, { recursive: true })
    t.teardown(() => rm(etc, { recursive: true }))
    const { nameservers, search } = one.dns ?? { nameservers: [], search: [] }
    const lines = [...nameservers.map(address => `nameserver ${address}`), `search ${search.join(' ')}`]
    await writeFile(`${etc}/resolv.conf`, `${lines.join('\n')}\n`)
    await writeFile(`${etc}/nsswitch.conf`, 'hosts: dns\n')
    t.match((await web.exec('getent', 'ahostsv4', 'shop')).stdout, v4)
    t.match((await web.exec('getent', 'ahostsv6', 'shop')).stdout, v6)
    t.match((await web.exec('getent', 'hosts', v4)).stdout, 'shop.red.vxmesh')
    t.equal((await web.exec('getent', 'hosts', 'nobody.red.vxmesh.')).exitCode, 2)
  })

  await t.test('need no upstream resolver in reach', async t => {
    t.equal(await statusOf(web, `@${at4}`, 'www.example'), 'SERVFAIL', 'nobody listens yet')
    t.equal(await statusOf(web, `@${at4}`, 'shop'), 'NXDOMAIN', 'a short name is not asked of others')
    t.same(await short(web, `@${at4}`, 'shop.red.vxmesh'), [v4])
  })

  await t.test('are in CNI’s result, for a pod by its namespace', async t => {
    const pod = await lab.container('pod')
    const { address, result } = await addPod(h1, { container: pod, namespace: 'prod', network: 'red' })
    t.strictSame((result as { dns?: unknown }).dns, one.dns)
    t.same(await short(pod, `@${at4}`, 'pod.prod.red.vxmesh'), [address])
  })

  await t.test('of others are forwarded, kept, and cut for UDP', async t => {
    const upstream = await JsonProcess.start(h1.namespace, script('dns-upstream.ts'), [`${UPSTREAM_PORT}`])
    t.teardown(() => upstream.stop())
    t.same(await short(web, `@${at4}`, 'www.example'), ['203.0.113.7'])
    const asked = await upstream.ask(null)
    t.same(await short(web, `@${at6}`, 'WWW.example'), ['203.0.113.7'], 'from the cache')
    t.equal(await upstream.ask(null), asked, 'the upstream is not asked again')
    t.equal(
      (await short(web, `@${at4}`, '+ignore', '+bufsize=512', 'large.example', 'TXT')).length,
      0,
      'too large for UDP'
    )
    t.match(await dig(web, `@${at4}`, '+ignore', '+bufsize=512', 'large.example', 'TXT'), /flags:[^;]* tc/)
    t.ok((await short(web, `@${at4}`, 'large.example', 'TXT')).length > 10, 'whole by TCP, as dig asks again')
    t.equal(await statusOf(web, `@${at4}`, 'missing.example'), 'NXDOMAIN')
    t.match(await dig(web, `@${at4}`, '+dnssec', 'www.example'), /EDNS: version: 0, flags: do/)
    const figures = (await h1.exec('curl', '-s', 'http://127.0.0.1:7380/metrics')).stdout
    if (figures !== '') t.match(figures, /vxmesh_dns_queries_total\{outcome="cached"\} [1-9]/)
  })

  await t.test('of a network of IPv6 alone', async t => {
    const container = await lab.container('six')
    const { gateway, address, dns } = await attach(h1, container, 'six', 'only')
    t.same(dns?.nameservers, [gateway])
    t.same(await short(container, `@${gateway}`, 'only.six.vxmesh', 'AAAA'), [bare(address)])
    t.same(await short(container, `@${gateway}`, '+tcp', '-x', bare(address)), ['only.six.vxmesh.'])
    await h1.detach(container)
  })

  await t.test('alone, in a network without egress', async t => {
    const { dns, gateway } = await attach(h1, alone, 'shut', 'own')
    t.ok(dns)
    t.equal((await short(alone, `@${gateway}`, 'own.shut.vxmesh')).length, 1)
    t.equal(await statusOf(alone, `@${gateway}`, 'www.example'), 'REFUSED', 'nothing leaves')
    const without = await attach(h1, mute, 'bare')
    t.equal(without.dns, null, 'without a router there is no resolver')
  })

  await t.test('answer nothing but DNS, and nobody but the network’s containers', async t => {
    const [router = ''] = await routersOf([h1.namespace])
    t.match((await web.exec('ping', '-c1', '-W2', at4)).stdout, '1 received')
    const probe = (port: number): Promise<{ exitCode: number | null }> =>
      web.exec('timeout', '1', 'bash', '-c', `exec 3<>/dev/tcp/${at4}/${port}`)
    t.equal((await probe(53)).exitCode, 0, 'port 53 is open')
    t.not((await probe(80)).exitCode, 0, 'port 80 is not')
    const tracked = async (): Promise<number> =>
      Number(await must('ip', ['netns', 'exec', router, 'sysctl', '-n', 'net.netfilter.nf_conntrack_count']))
    const before = await tracked()
    await Promise.all(Array.from({ length: 50 }, () => short(web, `@${at4}`, 'shop.red.vxmesh')))
    t.ok((await tracked()) < before + 25, 'queries take no room in the table of connections')
  })

  await t.test('stay quick for others when a tenant floods its resolver', async t => {
    const { gateway } = await h1.cliJson<EndpointView>('endpoint', 'show', 'other')
    const flooder = await JsonProcess.start(other.namespace, script('dns-client.ts'), [gateway, 'secret.blue.vxmesh'])
    const client = await JsonProcess.start(web.namespace, script('dns-client.ts'), [at4, 'shop.red.vxmesh'])
    t.teardown(() => Promise.all([flooder.stop(), client.stop()]))
    const calm = (await client.ask({ count: 600 })) as Asked
    const flood = flooder.ask({ ms: 4_000, perSecond: MILLION_A_MINUTE }) as Promise<Asked>
    const during = (await client.ask({ count: 600 })) as Asked
    const { sent, answered, elapsedMs } = await flood
    t.equal(during.answered, during.sent, 'each of their queries is answered')
    t.ok(answered <= 500 * (elapsedMs / 1_000 + 2) + 50, `${answered} of ${sent} are: the limit of one container`)
    t.comment(
      `p99 ${p99(calm)} ms, with ${Math.round(sent / (elapsedMs / 1_000))} queries/s from another tenant ${p99(during)} ms`
    )
    t.equal((await h1.status()).ready, true, 'and the agent is as it was')
  })

  await t.test('are answered again when the agent was killed', async t => {
    await h1.killAgent()
    t.equal(await statusOf(web, `@${at4}`, 'shop.red.vxmesh').catch(() => 'none'), 'none')
    await h1.startAgent()
    await h1.waitReady()
    await waitFor('the name is there', async () => (await short(web, `@${at4}`, 'shop.red.vxmesh'))[0] === v4)
    const [router = ''] = await routersOf([h1.namespace])
    await must('ip', ['netns', 'del', router])
    await waitFor('in a router made anew', async () => (await short(web, `@${at4}`, 'shop.red.vxmesh'))[0] === v4)
  })

  await t.test('end with the router', async t => {
    await h1.detach(alone)
    await waitFor('its router is gone', async () => (await routersOf([h1.namespace])).length === 2)
    t.pass()
  })
})
