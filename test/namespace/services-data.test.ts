// Services on real hosts: connections to their addresses reach backends on this host and another, and come back, whoever forwards.

import t, { type Test } from 'tap'
import { parseIp, parseSubnet } from '#model/ip.ts'
import type { DesiredService } from '#overlay/plan/services/service.ts'
import { makeNetwork, peer } from '../overlay/fixtures.ts'
import { cannotRun } from '../lab/requirements.ts'
import { ServiceEnd } from '../lab/service-end.ts'
import { Stage, type Plane } from '../lab/stage.ts'
import { TEST_TIMEOUT_MS } from '../lab/wait.ts'

t.setTimeout(TEST_TIMEOUT_MS)
const skip = cannotRun()
const net = makeNetwork('red', 0xabc, { subnet6: parseSubnet('fd00:1::/64') })
const FAMILIES = ['ipv4', 'ipv6'] as const
type Family = (typeof FAMILIES)[number]
const VIP: Readonly<Record<Family, string>> = { ipv4: '10.1.200.1', ipv6: 'fd00:1::c801' }
/** Outside of the subnets. */
const FAR: Readonly<Record<Family, string>> = { ipv4: '172.31.7.1', ipv6: 'fd00:7::1' }
const [PORT, TARGET] = [80, 8_080]
/** A segment of TCP that a network card is to cut. */
const LARGE = 300_000

function addressOf(s: Stage, name: string, family: Family): string {
  return family === 'ipv4' ? s.address(name) : s.address6(name)
}

/** The service at both addresses, with these containers behind it. */
function serviceOf(s: Stage, names: readonly string[], vips = VIP): DesiredService[] {
  return FAMILIES.map(family => {
    const backends = names.map(name => ({ address: parseIp(addressOf(s, name, family)), port: TARGET }))
    const ports = (['tcp', 'udp'] as const).map(protocol => ({ protocol, port: PORT, backends }))
    return { address: parseIp(vips[family]), ports, affinitySeconds: 0 }
  })
}

async function setServices(s: Stage, services: readonly DesiredService[]): Promise<void> {
  s.services = new Map([[net.name, services]])
  for (const host of s.members) await s.pass(host, net.vni)
}

/** A client on host 1, two backends there and one on host 2. */
async function stage(t: Test, plane: Plane): Promise<{ s: Stage; client: ServiceEnd }> {
  const s = await Stage.open(t, plane, {
    ...{ hosts: 2, networks: [net], programs: true },
    places: {
      c: [net, 1, '10.1.0.2'],
      near: [net, 1, '10.1.0.3'],
      far: [net, 2, '10.1.0.4']
    }
  })
  for (const name of ['near', 'far', 'c']) {
    const server = await ServiceEnd.serve(s.container(name), name, TARGET)
    t.teardown(() => server.stop())
  }
  const client = await ServiceEnd.client(s.container('c'))
  t.teardown(() => client.stop())
  return { s, client }
}

const who = (answers: readonly string[]): string[] =>
  [...new Set(answers.map(answer => answer.split(' ')[0] ?? ''))].sort()

for (const plane of ['bpf', 'linux'] as const) {
  t.test(`connections to a service reach its backends and come back: ${plane}`, { skip }, async t => {
    const { s, client } = await stage(t, plane)
    await setServices(s, [...serviceOf(s, ['near', 'far']), ...serviceOf(s, ['near', 'far'], FAR)])
    for (const family of FAMILIES) {
      for (const address of [VIP[family], FAR[family]]) {
        const own = addressOf(s, 'c', family)
        for (const kind of ['tcp', 'udp'] as const) {
          const answers: string[] = []
          for (let n = 0; n < 30; n++) answers.push(await client.ask(kind, { address, port: PORT }, 10))
          t.same(who(answers), ['far', 'near'], `${kind} to ${address}`)
          t.ok(
            answers.every(answer => answer.endsWith(` ${own} 10`)),
            `${kind} to ${address}: they see the client's own address`
          )
        }
        const large: string[] = []
        for (let n = 0; n < 8; n++) large.push(await client.ask('tcp', { address, port: PORT }, LARGE))
        t.ok(
          large.every(answer => answer.endsWith(` ${LARGE}`)),
          `${address}: large segments arrive whole: ${large.join(', ')}`
        )
      }
    }
  })
}

const UNUSED = 9_999

/** A service at the first address of both families, led to these backends and another port of theirs. */
function single(s: Stage, names: readonly string[], port = TARGET): DesiredService[] {
  return serviceOf(s, names).map(service => ({
    ...service,
    ports: service.ports.map(one => ({ ...one, backends: one.backends.map(backend => ({ ...backend, port })) }))
  }))
}

for (const plane of ['bpf', 'linux'] as const) {
  t.test(
    `established connections stay with their backend, whatever becomes of agent and service: ${plane}`,
    { skip },
    async t => {
      const { s, client } = await stage(t, plane)
      for (const [name, other] of [
        ['far', 'near'],
        ['near', 'far']
      ] as const) {
        for (const family of FAMILIES) {
          await setServices(s, single(s, [name]))
          const to = { address: VIP[family], port: PORT }
          const id = Number(await client.open(to))
          const still = async (what: string): Promise<void> => {
            t.same(who([await client.say(id), await client.say(id, LARGE)]), [name], `${family}, ${name}: ${what}`)
          }
          await still('at first')
          await s.restart(1)
          await still('after the end of the agent')
          t.same(
            (await s.pass(1)).filter(op => !op.includes('router')),
            [],
            'an agent that starts finds all of it right'
          )
          await still('after its first pass')
          await setServices(s, single(s, [name, other]))
          await still('with another backend')
          await setServices(s, single(s, [other]))
          await still('when its own backend is no longer one')
          t.same(
            who([await client.ask('tcp', to), await client.ask('udp', to)]),
            [other],
            'new ones go to the other one'
          )
          await s.restart(1)
          await setServices(s, single(s, [other]))
          await still('after another start')
          await setServices(s, [])
          await still('without the service')
          t.equal(await client.ask('tcp', to), 'ECONNREFUSED', 'which nobody reaches any more')
        }
      }
    }
  )

  t.test(`a closed port, no backend, no such port, and a fragment: ${plane}`, { skip }, async t => {
    const { s, client } = await stage(t, plane)
    await setServices(s, single(s, ['near'], UNUSED))
    for (const name of ['near', 'far']) {
      await setServices(s, single(s, [name], UNUSED))
      for (const family of FAMILIES) {
        const to = { address: VIP[family], port: PORT }
        t.equal(await client.ask('udp', to), 'ECONNREFUSED', `${name}: the error about a datagram is about the service`)
        t.equal(await client.ask('tcp', to), 'ECONNREFUSED', `${name}: a reset`)
      }
    }
    const drops = (): number => s.driver(1).guardDrops()?.nobody ?? 0
    for (const family of FAMILIES) {
      await setServices(s, single(s, []))
      const before = drops()
      for (const kind of ['tcp', 'udp'] as const) {
        for (const port of [PORT, 81])
          t.equal(
            await client.ask(kind, { address: VIP[family], port }),
            'ECONNREFUSED',
            `${kind}, ${port === PORT ? 'no backend' : 'no such port'}`
          )
      }
      t.ok(drops() >= before + 4, 'they are counted')
    }
    await setServices(s, single(s, ['near', 'far']))
    const fragments = s.driver(1).guardDrops()?.fragment ?? 0
    t.equal(await client.ask('udp', { address: VIP.ipv4, port: PORT }, 3_000), 'timeout')
    t.ok((s.driver(1).guardDrops()?.fragment ?? 0) > fragments, 'fragments are counted')
  })

  t.test(`a container reaches itself by a service: ${plane}`, { skip }, async t => {
    const { s, client } = await stage(t, plane)
    await setServices(s, single(s, ['c']))
    for (const family of FAMILIES) {
      const to = { address: VIP[family], port: PORT }
      const wanted = `c ${VIP[family]}`
      t.equal(await client.ask('udp', to), `${wanted} 10`, 'as if from the service')
      t.equal(await client.ask('tcp', to, LARGE), `${wanted} ${LARGE}`)
      const id = Number(await client.open(to))
      await s.restart(1)
      t.equal(await client.say(id), `${wanted} 10`)
    }
  })

  t.test(
    `containers that come and are shaped reach services, and backends that are shaped are reached: ${plane}`,
    { skip },
    async t => {
      const { s } = await stage(t, plane)
      await setServices(s, single(s, ['near', 'far']))
      await s.add('late', net, 1, '10.1.0.9')
      const late = await ServiceEnd.client(s.container('late'))
      t.teardown(() => late.stop())
      const works = async (what: string): Promise<void> => {
        for (const family of FAMILIES) {
          const answers: string[] = []
          for (let n = 0; n < 12; n++)
            answers.push(await late.ask(n % 2 === 0 ? 'tcp' : 'udp', { address: VIP[family], port: PORT }))
          t.same(who(answers), ['far', 'near'], `${family}: ${what}`)
        }
      }
      await works('from its first packet on')
      await s.shape('late', { ingressRate: 1e8, egressRate: 0, delayUs: 0 })
      await works('by its queue')
      await s.shape('late', { ingressRate: 0, egressRate: 1e8, delayUs: 0 })
      await works('by the queue of what it sends')
      await s.shape('near', { ingressRate: 1e8, egressRate: 1e8, delayUs: 0 })
      await works('to a backend with both')
      for (const host of s.members) t.same(await s.pass(host), [], `host ${host}: nothing is left to do`)
    }
  )
}

t.test('datagrams leave a backend that is gone, although they never cease', { skip }, async t => {
  const { s, client } = await stage(t, 'bpf')
  await setServices(s, single(s, ['near']))
  const to = { address: VIP.ipv4, port: PORT }
  const from = 40_001
  t.same(who([await client.ask('udp', { ...to, from }), await client.ask('udp', { ...to, from })]), ['near'])
  await setServices(s, single(s, ['far']))
  t.same(who([await client.ask('udp', { ...to, from })]), ['far'])
})

t.test('a backend whose host has failed gets no new connections while there is another one', { skip }, async t => {
  const { s, client } = await stage(t, 'bpf')
  await setServices(s, single(s, ['near', 'far']))
  const askAll = async (): Promise<string[]> => {
    const answers: string[] = []
    for (const family of FAMILIES)
      for (let n = 0; n < 12; n++)
        answers.push(await client.ask(n % 2 === 0 ? 'tcp' : 'udp', { address: VIP[family], port: PORT }))
    return who(answers)
  }
  const held = new Map<string, number>()
  while (held.size < 2) {
    const id = Number(await client.open({ address: VIP.ipv4, port: PORT }))
    held.set(who([await client.say(id)]).join(), id)
  }
  s.statuses = new Map([
    [peer(1), 'alive'],
    [peer(2), 'failed']
  ])
  await s.pass(1, net.vni)
  t.same(await askAll(), ['near'])
  t.same(who([await client.say(held.get('far') ?? -1, LARGE)]), ['far'], 'established connections stay')
  await setServices(s, single(s, ['far']))
  t.same(await askAll(), ['far'], 'without another one it is asked')
  s.statuses = null
  await setServices(s, single(s, ['near', 'far']))
  t.same(await askAll(), ['far', 'near'], 'it is back')
})

t.test('an answer that is cut into fragments is lost', { skip }, async t => {
  const { s, client } = await stage(t, 'bpf')
  // Its answers are as long as its name.
  const server = await ServiceEnd.serve(s.container('near'), 'x'.repeat(3_000), UNUSED)
  t.teardown(() => server.stop())
  await setServices(s, single(s, ['near'], UNUSED))
  for (const family of FAMILIES) {
    const direct = await client.ask('udp', { address: addressOf(s, 'near', family), port: UNUSED })
    t.ok(direct.length > 3_000, `${family}: it arrives without a service`)
    t.equal(await client.ask('udp', { address: VIP[family], port: PORT }), 'timeout')
    t.match(await client.ask('tcp', { address: VIP[family], port: PORT }), /^x{3000} /, 'TCP has no such answers')
  }
})

t.test('the router and what is not a service are reached as ever, in a network with services', { skip }, async t => {
  const { s, client } = await stage(t, 'bpf')
  await setServices(s, [...serviceOf(s, ['near'], VIP), ...serviceOf(s, ['near'], FAR)])
  for (const [name, family] of [
    ['near', 'ipv4'],
    ['far', 'ipv4'],
    ['near', 'ipv6'],
    ['far', 'ipv6']
  ] as const) {
    const to = { address: addressOf(s, name, family), port: TARGET }
    t.equal(await client.ask('tcp', to, LARGE), `${name} ${addressOf(s, 'c', family)} ${LARGE}`)
    t.equal(await client.ask('udp', to), `${name} ${addressOf(s, 'c', family)} 10`)
  }
  t.equal(await s.repliesOf('c', ['10.1.0.1'], { count: 2 }), 2)
})
