// A stranger on an IPv6 underlay makes up "packet too big" about what a host sends to another: neither the host nor its containers
// may believe it. ip(8) and ping(8) are the oracle; the same about a host beyond a router shows that the kernel believes such errors.

import t from 'tap'
import { bare } from '../lab/container.ts'
import { ip } from '../lab/kernel.ts'
import { icmp6, ipv6, udp, UDP, vxlan } from '../lab/packets/frames.ts'
import { datagram, ends, inject, macIn, POISONED_MTU, tooBig } from '../lab/packets/too-big.ts'
import { cannotRun } from '../lab/requirements.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../lab/wait.ts'
import { meshLab, nth } from './mesh-lab.ts'

t.setTimeout(TEST_TIMEOUT_MS)
const [HOST, PEER] = ['2001:db8::1', '2001:db8::2']
/** Nobody has it: a router of the underlay, as a stranger pretends. */
const ROUTER = '2001:db8::c9'
const BEYOND = '2001:db8:ff::1'
const SERF = 7946
/** The containers' MTU, and IPv4 and ICMP headers in it. */
const [MTU, PING_HEADERS] = [1_430, 28]
const [ECHO_REQUEST, FRAGMENT, ICMPV6] = [128, 44, 58]
const IPV6_BYTES = 40

type Ends = { readonly from: string; readonly to: string }

const echo = (between: Ends): Buffer => icmp6(ends(between), ECHO_REQUEST, Buffer.alloc(8))
const tunnelled = (between: Ends, vni: number): Buffer =>
  ipv6({ ...ends(between), next: UDP }, udp(50_000, 4_789, vxlan({ vni }, Buffer.alloc(64))))

/** In two fragments (RFC 8200, section 4.5), of which the first has no more than the ICMPv6 header. */
function inFragments(between: Ends, packet: Buffer): readonly Buffer[] {
  const message = packet.subarray(IPV6_BYTES)
  const part = (from: number, to: number, more: number): Buffer => {
    const header = Buffer.from([ICMPV6, 0, 0, from | more, 1, 2, 3, 4])
    return ipv6({ ...ends(between), next: FRAGMENT }, Buffer.concat([header, message.subarray(from, to)]))
  }
  return [part(0, 8, 1), part(8, message.length, 0)]
}

t.test('no stranger lowers the MTU of a path on the link', { skip: cannotRun() }, async t => {
  const { lab, containers, endpoints } = await meshLab(t, { servers: 2, attached: 2, family: 'ipv6' })
  const { namespace: h1 } = lab.host(1)
  const [one, other] = [nth(containers, 1), bare(nth(endpoints, 2).address)]
  const learned = async (namespace: string, to: string): Promise<string> =>
    /mtu \d+/.exec(await ip(namespace, `route get ${to}`))?.[0] ?? 'not learned'
  const whole = async (): Promise<number> =>
    (await one.ping(other, { count: 3, intervalMs: 50, size: MTU - PING_HEADERS, dontFragment: true, waitMs: 300 }))
      .received
  const forge = async (packets: readonly Buffer[]): Promise<void> =>
    inject(lab.underlay, 'br0', { to: (await macIn(h1, 'eth0')).mac, packets })
  t.equal(await whole(), 3)
  const about = { from: HOST, to: PEER }
  for (const [what, quoted] of [
    ['Serf', datagram(about, SERF)],
    ['a tunnelled packet', tunnelled(about, nth(endpoints, 1).vni)],
    ['a ping', echo(about)]
  ] as const) {
    for (const from of [ROUTER, PEER]) {
      const error = tooBig({ from, to: HOST }, quoted)
      await forge([error, ...inFragments({ from, to: HOST }, error)])
      t.equal(await whole(), 3, `about ${what} from ${from}`)
      t.equal(await learned(h1, PEER), 'not learned')
      t.equal(await learned(one.namespace, other), 'not learned')
    }
  }
  await ip(h1, `-6 route add 2001:db8:ff::/64 via ${PEER}`)
  await forge([tooBig({ from: ROUTER, to: HOST }, echo({ from: HOST, to: BEYOND }))])
  await waitFor(
    'one about a host beyond a router is believed',
    async () => (await learned(h1, BEYOND)) === `mtu ${POISONED_MTU}`
  )
})
