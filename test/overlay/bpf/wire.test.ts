// Packets between hosts whose programs wrap and unwrap, and hosts whose VXLAN devices do, in this kernel: whole, in both
// directions, and past all that judges or leads packets on the way.

import t from 'tap'
import { ipv4Of } from '#model/ip.ts'
import { parseIpv4 } from '#model/ipv4.ts'
import { parseMac } from '#model/mac.ts'
import { ip, json, must } from '../../lab/kernel.ts'
import { ETHER, ether, ipv4, mark, UDP, udp, vxlan } from '../../lab/packets/frames.ts'
import { Sender } from '../../lab/packets/raw-socket.ts'
import { countReplies, startPing } from '../../lab/ping.ts'
import { cannotRun } from '../../lab/requirements.ts'
import { ifindexOf } from '../../lab/scenarios/plane.ts'
import { red, Stage, type Places } from '../../lab/stage.ts'
import { TEST_TIMEOUT_MS, waitFor } from '../../lab/wait.ts'
import { makeNetwork } from '../fixtures.ts'
import { onesSum } from './ones-sum.ts'
import { carried, exchange, frameOf, listen, noOffloads, python, startFlood, startSniffer, transfer } from './wire.ts'

t.setTimeout(TEST_TIMEOUT_MS)
const skip = cannotRun()
const FRAMES = 1_024
const HEADERS = 50
const NOTHING = { sent: 0, received: 0 }
const PLACES: Places = { c1: [red, 1, '10.1.0.2'], c2: [red, 2, '10.1.0.3'] }
const THREE: Places = { ...PLACES, c3: [red, 3, '10.1.0.4'] }

const frames = (s: Stage, from: string, to: string, count = FRAMES): Buffer[] =>
  Array.from({ length: count }, (_, n) => frameOf(s, { from, to, n }))

const text = (all: readonly Buffer[]): string[] => all.map(frame => frame.toString('hex'))

async function macOf(s: Stage, host: number): Promise<ReturnType<typeof parseMac>> {
  const [row] = await json<{ address: string }>('ip', s.lab.host(host).namespace, 'link show dev eth0')
  return parseMac(row?.address ?? '')
}

t.test(
  'packets between hosts arrive as they were sent, in order, whoever wraps and unwraps them',
  { skip },
  async t => {
    for (const [title, linux] of [
      ['both by their programs', []],
      ['one of them by its VXLAN device', [2]]
    ] as const) {
      await t.test(title, async t => {
        const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES, linux })
        t.equal(await countReplies(s.container('c1'), s.address('c2')), 3)
        for (const [from, to] of [
          [1, 2],
          [2, 1]
        ] as const) {
          const sent = frames(s, `c${from}`, `c${to}`)
          const tunnels = await carried(s, [from, to], async () => {
            const arrived = await exchange(t, s, { from: `c${from}`, to: `c${to}`, frames: sent })
            t.same(text(arrived), text(sent), `from host ${from} to host ${to}`)
          })
          const isLinux = (host: number): boolean => (linux as readonly number[]).includes(host)
          t.equal(tunnels.sent, isLinux(from) ? FRAMES : 0, `host ${from} wraps`)
          // The VXLAN device sends a UDP checksum, which only a VXLAN device checks.
          t.equal(tunnels.received, linux.length > 0 ? FRAMES : 0, `host ${to} unwraps`)
        }
      })
    }
  }
)

t.test(
  'what is on the wire is what RFC 7348 says, and what the VXLAN device sends but for a UDP checksum',
  { skip },
  async t => {
    const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES, linux: [2] })
    await countReplies(s.container('c1'), s.address('c2'))
    const macs = [await macOf(s, 1), await macOf(s, 2)] as const
    for (const [from, to] of [
      [1, 2],
      [2, 1]
    ] as const) {
      const wire = await listen(t, s.lab.underlay, `p${from}`)
      const sent = frames(s, `c${from}`, `c${to}`, 256)
      await exchange(t, s, { from: `c${from}`, to: `c${to}`, frames: sent })
      const mac = macs[from - 1] ?? ''
      const wrapped = wire.heard(mac).filter(frame => frame.length > HEADERS && frame.readUInt16BE(36) === 4789)
      t.same(text(wrapped.map(frame => frame.subarray(HEADERS))), text(sent), `of host ${from}`)
      for (const [n, frame] of wrapped.entries()) {
        const head = frame.subarray(14, 34)
        const ecn = [0, 1, 2, 2][n & 3] ?? 0
        const [id, checksum] = [frame.toString('hex', 18, 20), frame.toString('hex', 24, 26)]
        const udpChecksum = from === 1 ? '0000' : frame.toString('hex', 40, 42)
        const bytes = (value: number): string => value.toString(16).padStart(4, '0')
        const want = [
          ...[(macs[to - 1] ?? '').replaceAll(':', ''), mac.replaceAll(':', ''), '0800'],
          ...['45', `0${ecn}`, bytes(frame.length - 14), id, '0000', '40', '11', checksum],
          ...[
            `c000020${from}`,
            `c000020${to}`,
            frame.toString('hex', 34, 36),
            '12b5',
            bytes(frame.length - 34),
            udpChecksum
          ],
          ...['08000000', red.vni.toString(16).padStart(6, '0'), '00']
        ].join('')
        if (frame.toString('hex', 0, HEADERS) !== want) t.equal(frame.toString('hex', 0, HEADERS), want, `packet ${n}`)
        if (onesSum(head) !== 0xffff) t.fail(`packet ${n}: the checksum of the header`)
      }
      const ports = wrapped.map(frame => frame.readUInt16BE(34))
      if (from === 1)
        t.ok(
          ports.every(port => port >= 0xc000),
          'source ports'
        )
    }
  }
)

t.test('a checksum that a container leaves to its device is right on the wire', { skip }, async t => {
  const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES })
  await countReplies(s.container('c1'), s.address('c2'))
  await noOffloads(s.lab.host(1), 'eth0')
  const wire = await listen(t, s.lab.underlay, 'p1')
  const script = [
    'import socket, sys',
    's = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)',
    'for n in range(1, 1400, 7): s.sendto(bytes((n * i) & 255 for i in range(n)), (sys.argv[1], 5400))'
  ].join('\n')
  const tunnels = await carried(s, [1, 2], () => python(s.container('c1'), script, s.address('c2')))
  t.same(tunnels, NOTHING, 'the programs wrap and unwrap all of them')
  const mac = await macOf(s, 1)
  const inner = (): Buffer[] =>
    wire
      .heard(mac)
      .filter(frame => frame.length > HEADERS && frame.readUInt16BE(36) === 4789)
      .map(frame => frame.subarray(HEADERS + 14))
      .filter(packet => packet[9] === UDP && packet.readUInt16BE(22) === 5_400)
  await waitFor('all datagrams are on the wire', () => inner().length === 200)
  for (const packet of inner()) {
    const datagram = packet.subarray(20)
    const pseudo = Buffer.alloc(12 + datagram.length + (datagram.length & 1))
    packet.copy(pseudo, 0, 12, 20)
    pseudo.writeUInt8(UDP, 9)
    pseudo.writeUInt16BE(datagram.length, 10)
    datagram.copy(pseudo, 12)
    if (onesSum(pseudo) !== 0xffff || datagram.readUInt16BE(6) === 0) t.fail(`of ${datagram.length} bytes`)
  }
})

t.test(
  'TCP passes whole, in large and in small writes: programs wrap what is to be cut, too, and VXLAN devices unwrap it',
  { skip },
  async t => {
    for (const [title, linux] of [
      ['between programs', []],
      ['with a host that has none', [2]]
    ] as const) {
      await t.test(title, async t => {
        const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES, linux })
        for (const [from, to] of [
          [1, 2],
          [2, 1]
        ] as const) {
          const ends = {
            from: s.container(`c${from}`),
            to: s.container(`c${to}`),
            address: s.address(`c${to}`)
          }
          const many = await carried(s, [from, to], async () => {
            t.ok(await transfer({ ...ends, bytes: 32 << 20, writeBytes: 1 << 20 }), `large writes from host ${from}`)
          })
          const isLinux = (linux as readonly number[]).includes(from)
          if (isLinux) t.ok(many.sent > 100, `its VXLAN device wraps: ${many.sent} packets`)
          else t.equal(many.sent, 0, 'its programs wrap all')
          t.ok(many.received > 100, `the VXLAN device unwraps ${many.received} large packets`)
          t.ok(await transfer({ ...ends, bytes: 1 << 20, writeBytes: 700 }), `small writes from host ${from}`)
        }
        await noOffloads(s.lab.host(1), 'eth0')
        const ends = { from: s.container('c1'), to: s.container('c2'), address: s.address('c2') }
        t.ok(await transfer({ ...ends, bytes: 8 << 20, writeBytes: 1 << 20 }), 'by a device that cuts nothing')
      })
    }
  }
)

t.test('small packets of TCP pass no VXLAN device', { skip }, async t => {
  const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES })
  const ends = { from: s.container('c1'), to: s.container('c2'), address: s.address('c2') }
  // Shorter than a segment, and one at a time: nothing is there to be cut.
  t.same(await carried(s, [1, 2], async () => t.ok(await transfer({ ...ends, bytes: 500, writeBytes: 500 }))), NOTHING)
})

t.test(
  'what is sent passes no hook of the host’s, nor do small packets that come; a packet socket at the underlay’s device hears all',
  { skip },
  async t => {
    const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES })
    t.equal(await countReplies(s.container('c1'), s.address('c2')), 3)
    const { namespace } = s.lab.host(1)
    const hooks = ['prerouting', 'input', 'output', 'postrouting']
    const chains = hooks.map(
      hook => `chain ${hook} { type filter hook ${hook} priority -400; udp dport 4789 counter; }`
    )
    await must('ip', ['netns', 'exec', namespace, 'nft', '-f', '-'], {
      input: `table inet mine {\n${chains.join('\n')}\n}`
    })
    const counted = async (): Promise<number[]> => {
      const listing = await must('ip', ['netns', 'exec', namespace, 'nft', 'list', 'table', 'inet', 'mine'])
      return [...listing.matchAll(/counter packets (\d+)/g)].map(match => Number(match[1]))
    }
    const sniffer = await startSniffer(s.lab.host(1), 'eth0')
    t.teardown(() => sniffer.stop())
    t.equal(await countReplies(s.container('c1'), s.address('c2'), { count: 20 }), 20)
    t.same(await counted(), [0, 0, 0, 0])
    await waitFor('20 packets each way', () => sniffer.sent() === 20 && sniffer.received() === 20)
    const large = { bytes: 4 << 20, writeBytes: 1 << 20 }
    t.ok(await transfer({ from: s.container('c1'), to: s.container('c2'), address: s.address('c2'), ...large }))
    t.same(await counted(), [0, 0, 0, 0], 'of large packets that are sent, and small answers')
    t.ok(await transfer({ from: s.container('c2'), to: s.container('c1'), address: s.address('c1'), ...large }))
    const [prerouting = 0, input = 0, ...sent] = await counted()
    t.ok(prerouting > 0 && input > 0, 'large packets that come pass them')
    t.same(sent, [0, 0])
  }
)

t.test(
  'a neighbour of the underlay that is not known is resolved, and loses nothing that its queue has room for',
  { skip },
  async t => {
    const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES })
    t.equal(await countReplies(s.container('c1'), s.address('c2')), 3)
    for (let round = 0; round < 5; round++) {
      await ip(s.lab.host(1).namespace, 'neigh flush dev eth0')
      t.same(
        (await json<{ dst: string; lladdr?: string }>('ip', s.lab.host(1).namespace, 'neigh show dev eth0')).filter(
          ({ dst, lladdr }) => dst === '192.0.2.2' && lladdr !== undefined
        ),
        [],
        'it is not known'
      )
      const sent = frames(s, 'c1', 'c2', 100)
      t.same(text(await exchange(t, s, { from: 'c1', to: 'c2', frames: sent })), text(sent), `round ${round}`)
    }
  }
)

t.test('a host that does not answer, or that no route leads to, harms no other', { skip }, async t => {
  const s = await Stage.open(t, 'bpf', { hosts: 3, places: THREE })
  const [here, { namespace }] = [s.container('c1'), s.lab.host(1)]
  for (const to of ['c2', 'c3']) t.equal(await countReplies(here, s.address(to)), 3)
  const unreachable: readonly [title: string, cut: () => Promise<unknown>, mend: () => Promise<unknown>][] = [
    ['a link that is down', () => ip(s.lab.underlay, 'link set p3 down'), () => ip(s.lab.underlay, 'link set p3 up')],
    [
      'a route that leads nowhere',
      () => ip(namespace, 'route add unreachable 192.0.2.3/32'),
      () => ip(namespace, 'route del unreachable 192.0.2.3/32')
    ],
    [
      'a route that is a hole',
      () => ip(namespace, 'route add blackhole 192.0.2.3/32'),
      () => ip(namespace, 'route del blackhole 192.0.2.3/32')
    ]
  ]
  for (const [title, cut, mend] of unreachable) {
    await cut()
    await ip(namespace, 'neigh flush dev eth0')
    const flood = await startFlood(here, s.address('c3'))
    t.teardown(() => flood.stop())
    const ping = startPing(here.namespace, s.address('c2'), { count: 2_000, intervalMs: 2 })
    for (const [from, to] of [
      ['c1', 'c2'],
      ['c2', 'c1']
    ] as const) {
      const sent = frames(s, from, to, 500)
      t.same(text(await exchange(t, s, { from, to, frames: sent })), text(sent), `${title}: from ${from} to ${to}`)
    }
    ping.stop()
    const { gaps, received } = await ping.result
    flood.stop()
    t.same(gaps, [], `${title}: of ${received} packets none is lost`)
    await mend()
    await waitFor(
      `${title}: the host is reached again`,
      async () => (await countReplies(here, s.address('c3'))) === 3,
      {
        timeoutMs: 30_000
      }
    )
  }
})

t.test(
  'packets above the underlay’s MTU are cut and put together again, those below are wrapped',
  { skip },
  async t => {
    const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES })
    // As much as the underlay takes, which leaves no room for the outer headers.
    const large = makeNetwork('large', 0x777, { mtu: 1_500, egress: false })
    s.networks.push(large)
    await s.add('l1', large, 1, '10.1.0.2')
    await s.add('l2', large, 2, '10.1.0.3')
    const ping = async (bytes: number, mayBeCut: boolean): Promise<string> => {
      const flags = ['-n', '-c', '3', '-i', '0.05', '-W', '1', '-M', mayBeCut ? 'dont' : 'do', '-s', `${bytes - 28}`]
      const { stdout } = await s.container('l1').exec('ping', ...flags, s.address('l2'))
      return stdout
    }
    for (const bytes of [40, 1_450, 1_451, 1_500]) t.match(await ping(bytes, true), / 3 received/, `${bytes} bytes`)
    t.match(await ping(1_450, false), / 3 received/, 'what fits the underlay must not be cut, and is not')
    t.match(await ping(1_451, false), /Frag needed.*mtu = 1450/, 'what does not and must not be cut is told so')
    const ends = { from: s.container('l1'), to: s.container('l2'), address: s.address('l2') }
    t.ok(await transfer({ ...ends, bytes: 4 << 20, writeBytes: 1 << 16 }), 'TCP')
    await s.lab.setUnderlayMtu(1_400)
    for (const host of [1, 2]) t.ok((await s.pass(host)).includes('set 1 settings'), `host ${host} follows`)
    for (const bytes of [1_350, 1_351, 1_400])
      t.match(await ping(bytes, true), / 3 received/, `${bytes} bytes of 1,350`)
  }
)

t.test('a container that sends on what it received is no exception', { skip }, async t => {
  const s = await Stage.open(t, 'bpf', { hosts: 3, places: THREE })
  const [c1, c2] = [s.container('c1'), s.container('c2')]
  // A proxy, as containers of a service mesh have it: what comes for it goes on to another host, in its own name.
  const table = [
    'table ip proxy {',
    `chain in { type nat hook prerouting priority -100; tcp dport 5301 dnat to ${s.address('c3')}; }`,
    'chain out { type nat hook postrouting priority 100; oif eth0 masquerade; }',
    '}'
  ].join('\n')
  await must('ip', ['netns', 'exec', c2.namespace, 'sysctl', '-qw', 'net.ipv4.ip_forward=1'])
  await must('ip', ['netns', 'exec', c2.namespace, 'nft', '-f', '-'], { input: table })
  const ends = { from: c1, to: s.container('c3'), address: s.address('c2') }
  t.ok(await transfer({ ...ends, bytes: 500, writeBytes: 500 }), 'small packets')
  t.ok(await transfer({ ...ends, bytes: 8 << 20, writeBytes: 1 << 20 }), 'large ones')
  t.ok(await transfer({ ...ends, bytes: 1 << 20, writeBytes: 700 }), 'and many small ones')
})

t.test('VXLAN for another host’s MAC is not taken in, also by a device that hears all', { skip }, async t => {
  const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES })
  await ip(s.lab.host(1).namespace, 'link set eth0 promisc on')
  const [from, to] = [await macOf(s, 2), await macOf(s, 1)]
  const ear = await listen(t, s.container('c1').namespace)
  const sender = new Sender(s.lab.host(2).netns, await ifindexOf(s.lab.host(2).namespace))
  t.teardown(() => sender.close())
  const [c1, c2] = [s.endpoint('c1'), s.endpoint('c2')]
  const send = (mac: typeof from, id: number): void => {
    const datagram = udp(5_000, 5_001, mark(id))
    const packet = ipv4({ from: ipv4Of(c2.address), to: ipv4Of(c1.address), protocol: UDP }, datagram)
    const inner = ether({ to: c1.mac, from: c2.mac, type: ETHER.ipv4 }, packet)
    const outer = udp(50_000, 4_789, vxlan({ vni: red.vni }, inner))
    const [source, target] = ['192.0.2.2', '192.0.2.1'].map(address => parseIpv4(address))
    sender.send(
      ether({ to: mac, from, type: ETHER.ipv4 }, ipv4({ from: source ?? 0, to: target ?? 0, protocol: UDP }, outer))
    )
  }
  const has = (id: number): boolean => ear.heard(c2.mac).some(frame => frame.includes(mark(id)))
  send(parseMac('02:00:00:00:00:77'), 1)
  send(to, 2)
  await waitFor('the one for this host arrives', () => has(2))
  t.notOk(has(1), 'the one before it does not')
})

t.test(
  'a host with IPsec policies leaves wrapping and unwrapping to the VXLAN device, and so obeys them',
  { skip },
  async t => {
    const s = await Stage.open(t, 'bpf', { hosts: 2, places: PLACES })
    const [h1, h2] = [s.lab.host(1).namespace, s.lab.host(2).namespace]
    const replies = (): Promise<number> => countReplies(s.container('c1'), s.address('c2'))
    const heard: unknown[] = []
    const stop = s.driver(1).onChange(networks => heard.push(networks))
    t.teardown(stop)
    const policies: readonly [title: string, at: number, policy: string][] = [
      ['what arrives must be encrypted', 2, 'src 192.0.2.1/32 dst 192.0.2.2/32 dir in tmpl proto esp mode transport'],
      ['no VXLAN may leave', 1, 'src 192.0.2.1/32 dst 192.0.2.2/32 proto udp dport 4789 dir out action block'],
      ['nothing may leave for the other host', 1, 'src 192.0.2.1/32 dst 192.0.2.2/32 dir out action block']
    ]
    t.equal(await replies(), 3)
    for (const [title, at, policy] of policies) {
      const host = at === 1 ? h1 : h2
      await ip(host, `xfrm policy add ${policy}`)
      t.ok((await s.pass(at)).includes('set 1 settings'), title)
      t.equal(await replies(), 0, title)
      await ip(host, 'xfrm policy flush')
      t.ok((await s.pass(at)).includes('set 1 settings'), `${title}: no more`)
      t.equal(await replies(), 3, `${title}: no more`)
    }
    await ip(h1, 'xfrm policy add src 203.0.113.1/32 dst 203.0.113.2/32 dir out action block')
    await s.pass(1)
    const tunnels = await carried(s, [1, 2], async () => t.equal(await replies(), 3, 'a policy about others'))
    t.same(tunnels, { sent: 3, received: 3 }, 'the VXLAN device wraps')
    heard.length = 0
    await ip(h1, 'xfrm policy add src 203.0.113.1/32 dst 203.0.113.3/32 dir out action block')
    await ip(h1, 'xfrm policy flush')
    await waitFor('the last one’s end is told', () => heard.includes(null))
  }
)

t.test(
  'a host whose packets leave by another device than the underlay’s is reached by the VXLAN device',
  { skip },
  async t => {
    const s = await Stage.open(t, 'bpf', { hosts: 3, places: THREE })
    const [h1, h2] = [s.lab.host(1), s.lab.host(2)]
    // A second wire between the first two hosts.
    await ip(h1.namespace, `link add eth9 type veth peer name eth9 netns ${h2.namespace}`)
    for (const [n, { namespace }] of [h1, h2].entries()) {
      await ip(namespace, `addr add 198.51.100.${n + 1}/24 dev eth9`)
      await ip(namespace, 'link set eth9 up')
      for (const device of ['all', 'eth0', 'eth9'])
        await must('ip', ['netns', 'exec', namespace, 'sysctl', '-qw', `net.ipv4.conf.${device}.rp_filter=0`])
    }
    await ip(h1.namespace, 'route add 192.0.2.2/32 via 198.51.100.2 dev eth9 src 192.0.2.1')
    t.ok((await s.pass(1)).includes(`set 1 stations (vni ${red.vni})`))
    const wire = await listen(t, h2.namespace, 'eth9')
    const [{ address: mac } = { address: '' }] = await json<{ address: string }>(
      'ip',
      h1.namespace,
      'link show dev eth9'
    )
    await python(
      s.container('c1'),
      'import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); [s.sendto(b"x", (sys.argv[1], 5400 + n)) for n in range(10)]',
      s.address('c2')
    )
    const arrived = (): number =>
      wire.heard(mac).filter(frame => frame.length > HEADERS && frame.readUInt16BE(36) === 4789).length
    await waitFor('VXLAN takes the route', () => arrived() >= 10)
    t.equal(await countReplies(s.container('c1'), s.address('c3')), 3, 'the third host is reached as before')
    const direct = await carried(s, [1, 3], () => countReplies(s.container('c1'), s.address('c3')))
    t.same(direct, NOTHING, 'by the programs')
    await ip(h1.namespace, 'route del 192.0.2.2/32 via 198.51.100.2 dev eth9')
    t.ok((await s.pass(1)).includes(`set 1 stations (vni ${red.vni})`))
    const back = await carried(s, [1, 2], async () =>
      t.equal(await countReplies(s.container('c1'), s.address('c2')), 3)
    )
    t.same(back, NOTHING, 'and without that route the second one is, too')
  }
)
