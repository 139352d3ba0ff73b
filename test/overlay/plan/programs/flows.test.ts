import { readFileSync } from 'node:fs'
import t from 'tap'
import { parseVni, type Vni } from '#model/ids.ts'
import { parseIp } from '#model/ip.ts'
import {
  FLOW_BYTES,
  FLOW_KEY_BYTES,
  FlowJudge,
  FLOWS_OF_HOST,
  IDLE,
  otherHalf,
  shareOf
} from '#overlay/plan/programs/flows.ts'
import { PROTOCOLS, writeMapped } from '#overlay/plan/programs/service-entries.ts'
import type { Protocol } from '#model/service.ts'

const HEADER = readFileSync(new URL('../../../../overlay/bpf/programs/flows.h', import.meta.url), 'utf8')
const vni = parseVni(7)
const [VIP, BACKEND, OWN] = ['10.1.200.1', '10.1.0.3', '10.1.0.2']
const NOW = 10_000
const define = (name: string): number => Number(new RegExp(`#define ${name} (\\d+)`).exec(HEADER)?.[1])
const [ENDED, RESET, SELF, SELF_BACK, USED] = ['ENDED', 'RESET', 'OWN', 'OWN_BACK', 'USED'].map(name =>
  define(`FLOW_${name}`)
) as [number, number, number, number, number]

type Half = { readonly key: Buffer; readonly value: Buffer }
type HalfSpec = {
  readonly port?: number
  readonly protocol?: Protocol
  readonly toService: boolean
  readonly other: readonly [address: string, port: number]
  readonly own?: number
  readonly becomes: readonly [address: string, port: number]
  readonly quiet: number
  readonly marks: number
}

function half(p: HalfSpec): Half {
  const { port = 5, protocol = 'tcp', own = 40_000 } = p
  const [key, value] = [Buffer.alloc(FLOW_KEY_BYTES), Buffer.alloc(FLOW_BYTES)]
  key.writeUInt32LE(port, 0)
  writeMapped(key, 4, parseIp(p.other[0]))
  key.writeUInt16BE(p.other[1], 20)
  key.writeUInt16BE(own, 22)
  key.writeUInt8(PROTOCOLS[protocol], 24)
  key.writeUInt8(p.toService ? 0 : 1, 25)
  writeMapped(value, 0, parseIp(p.becomes[0]))
  value.writeUInt16BE(p.becomes[1], 16)
  value.writeUInt32LE(NOW - p.quiet, 24)
  value.writeUInt32LE(p.marks, 28)
  return { key, value }
}

/** Both halves of a connection, quiet for so long, with these marks. */
function pair(
  quiet: readonly [number, number],
  marks: readonly [number, number],
  p: { protocol?: Protocol; port?: number; own?: number } = {}
): Half[] {
  return [
    half({ ...p, toService: true, other: [VIP, 80], becomes: [BACKEND, 8_080], quiet: quiet[0], marks: marks[0] }),
    half({ ...p, toService: false, other: [BACKEND, 8_080], becomes: [VIP, 80], quiet: quiet[1], marks: marks[1] })
  ]
}

function judge(
  halves: readonly Half[],
  p: { ports?: ReadonlyMap<number, Vni>; hasBackend?: (name: string) => boolean } = {}
): { over: number[]; left: [number, number][] } {
  const { ports = new Map([[5, vni]]), hasBackend = () => true } = p
  const find = (key: Uint8Array): Uint8Array | null => halves.find(one => one.key.equals(key))?.value ?? null
  const judge = new FlowJudge({ now: NOW, ports, hasBackend, find })
  for (const { key, value } of halves) judge.add({ keys: key, values: value, count: 1 })
  const steps = judge.judge()
  let step = steps.next()
  while (step.done !== true) step = steps.next()
  const { over, left } = step.value
  return { over: halves.flatMap(({ key }, i) => (over.includes(key.toString('latin1')) ? [i] : [])), left: [...left] }
}

t.test('a flow is over after the time that its protocol and its marks give it, by the later of its halves', async t => {
  const cases: readonly [string, number, readonly [number, number], Protocol?][] = [
    ['a connection in use', IDLE.connection, [USED, USED]],
    ['one that nobody has answered', IDLE.short, [USED, 0]],
    ['one that was never used again', IDLE.short, [0, 0]],
    ['one that was reset by its client', IDLE.short, [USED | RESET, USED]],
    ['one that was reset by its backend', IDLE.short, [USED, USED | RESET]],
    ['one that both have ended', IDLE.short, [USED | ENDED, USED | ENDED]],
    ['one that its client has ended', IDLE.half, [USED | ENDED, USED]],
    ['one that its backend has ended', IDLE.half, [USED, USED | ENDED]],
    ['datagrams', IDLE.datagrams, [USED, USED], 'udp'],
    ['datagrams without an answer', IDLE.short, [USED, 0], 'udp'],
    ['an association', IDLE.connection, [USED, USED], 'sctp']
  ]
  for (const [title, seconds, marks, protocol] of cases) {
    const p = protocol === undefined ? {} : { protocol }
    t.same(judge(pair([seconds, seconds], marks, p)), { over: [0, 1], left: [[5, 0]] }, title)
    t.same(judge(pair([seconds - 1, seconds - 1], marks, p)), { over: [], left: [[5, 2]] }, `${title}, a second before`)
    t.same(judge(pair([seconds, 0], marks, p)).over, [], `${title}: its answers go on`)
    t.same(judge(pair([0, seconds], marks, p)).over, [], `${title}: its questions go on`)
  }
})

t.test('a half without its other half is over when it is quiet', async t => {
  const [first, second] = pair([IDLE.short, IDLE.short], [0, 0]) as [Half, Half]
  t.same(judge([first]).over, [0])
  t.same(judge([second]).over, [0])
  t.same(judge(pair([1, 1], [0, 0]).slice(0, 1)).over, [])
})

t.test('the flows of a port that is gone are over', async t => {
  const all = [...pair([0, 0], [USED, USED]), ...pair([0, 0], [USED, USED], { port: 6 })]
  t.same(judge(all), {
    over: [2, 3],
    left: [
      [5, 2],
      [6, 0]
    ]
  })
})

t.test('datagrams leave a backend that is gone, and connections stay with it', async t => {
  const udp = pair([0, 0], [USED, USED], { protocol: 'udp' })
  const asked: string[] = []
  const gone = (name: string): boolean => {
    asked.push(Buffer.from(name, 'latin1').toString('hex'))
    return false
  }
  t.same(judge([...udp, ...pair([0, 0], [USED, USED])], { hasBackend: gone }).over, [0, 1])
  const mapped = '00000000000000000000ffff'
  t.same(asked, [`07000000${mapped}0a01c801005011${mapped}0a0100031f90`], 'as the tables of backends name it')
})

t.test('a container that is its own backend has two halves, too', async t => {
  const there = half({ toService: true, other: [VIP, 80], becomes: [OWN, 8_080], quiet: 60, marks: USED | SELF })
  const back = half({
    toService: true,
    other: [VIP, 40_000],
    own: 8_080,
    becomes: [VIP, 80],
    quiet: 60,
    marks: SELF_BACK
  })
  t.same(Buffer.from(otherHalf(there.key, there.value)), back.key)
  t.same(Buffer.from(otherHalf(back.key, back.value)), there.key)
  t.same(judge([there, back]).over, [0, 1])
  for (const [a, b] of [pair([0, 0], [0, 0])] as [Half, Half][]) {
    t.same(Buffer.from(otherHalf(a.key, a.value)), b.key)
    t.same(Buffer.from(otherHalf(b.key, b.value)), a.key)
  }
})

t.test('the shares of all ports are no more than half of all flows', async t => {
  t.equal(FLOWS_OF_HOST, define('FLOWS_OF_HOST'))
  for (const ports of [0, 1, 2, 3, 100, 5_000]) {
    t.ok(shareOf(ports) * ports <= FLOWS_OF_HOST / 2, `${ports}`)
    t.ok(Number.isInteger(shareOf(ports)) && shareOf(ports) >= 32, `${ports}`)
  }
})
