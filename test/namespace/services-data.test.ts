// Services on real hosts: connections to their addresses reach backends on this host and another, and come back, whoever forwards.

import t, { type Test } from 'tap'
import { parseIp, parseSubnet } from '#model/ip.ts'
import type { DesiredService } from '#overlay/plan/services/service.ts'
import { makeNetwork } from '../overlay/fixtures.ts'
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

const who = (answers: readonly string[]): string[] => [...new Set(answers.map(answer => answer.split(' ')[0] ?? ''))].sort()

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
