import fc from 'fast-check'
import t from 'tap'
import { Schedule, type Turn } from '#agent/reconcile/schedule.ts'
import { parseVni, type Vni } from '#model/ids.ts'

const [red, blue] = [parseVni(1), parseVni(2)]
const FULL: Turn = { kind: 'full' }
const network = (vni: Vni): Turn => ({ kind: 'network', vni })

/** A full pass that starts at 0 ms and takes this long. */
function afterFullPass(tookMs: number): Schedule {
  const schedule = new Schedule()
  schedule.stateChanged(null)
  schedule.begin(FULL)
  schedule.ended(FULL, { sinceMs: 0, nowMs: tookMs })
  return schedule
}

t.test('nothing runs unless something asks for it', async t => {
  const schedule = new Schedule()
  t.equal(schedule.isAsked, false)
  t.equal(schedule.next(1e9), null)
  schedule.stateChanged([])
  schedule.kernelChanged([])
  t.equal(schedule.isAsked, false)
})

t.test('networks are taken in order of their first wake, each once, and all of them by a full pass', async t => {
  const schedule = new Schedule()
  schedule.stateChanged([blue, red])
  schedule.stateChanged([blue])
  t.strictSame(schedule.next(0), network(blue))
  schedule.begin(network(blue))
  t.strictSame(schedule.next(0), network(red))
  schedule.stateChanged(null)
  t.strictSame(schedule.next(0), FULL)
  schedule.begin(FULL)
  t.equal(schedule.next(0), null)
})

t.test('a wake during a pass asks for another one', async t => {
  const schedule = new Schedule()
  for (const turn of [FULL, network(red)]) {
    schedule.stateChanged(turn.kind === 'full' ? null : [red])
    schedule.begin(turn)
    schedule.stateChanged(turn.kind === 'full' ? null : [red])
    schedule.ended(turn, { sinceMs: 0, nowMs: 0 })
    t.strictSame(schedule.next(0), turn)
    schedule.begin(turn)
  }
})

t.test('after a full pass of 100 ms kernel changes wait 400 ms for the next one; the state does not wait', async t => {
  const schedule = afterFullPass(100)
  schedule.kernelChanged(null)
  t.equal(schedule.next(499), null)
  t.equal(schedule.wakeAtMs(Infinity), 500)
  t.strictSame(schedule.next(500), FULL)
  schedule.stateChanged(null)
  t.strictSame(schedule.next(101), FULL, 'urgent')
  schedule.kernelChanged(null)
  t.strictSame(schedule.next(101), FULL, 'and stays so')
  schedule.begin(FULL)
  schedule.kernelChanged(null)
  t.equal(schedule.next(101), null, 'until it was taken')
})

t.test('passes over single networks run meanwhile', async t => {
  const schedule = afterFullPass(100)
  schedule.kernelChanged(null)
  schedule.kernelChanged([red])
  t.strictSame(schedule.next(101), network(red))
})

t.test('more than 64 networks make a full pass', async t => {
  const schedule = new Schedule()
  const vnis = Array.from({ length: 65 }, (_, n) => parseVni(n + 1))
  schedule.stateChanged(vnis.slice(0, 64))
  t.equal(schedule.next(0)?.kind, 'network')
  schedule.stateChanged(vnis.slice(64))
  t.equal(schedule.next(0)?.kind, 'full')
})

t.test('what the kernel changed is stale until its pass begins, what the state changed is not', async t => {
  const schedule = new Schedule()
  schedule.stateChanged([red])
  t.equal(schedule.isStale(red), false)
  schedule.kernelChanged([red])
  t.equal(schedule.isStale(red), true)
  t.equal(schedule.isStale(blue), false)
  t.strictSame(schedule.begin(network(red)), { kernelChanged: true })
  t.equal(schedule.isStale(red), false)
  schedule.stateChanged([red])
  t.strictSame(schedule.begin(network(red)), { kernelChanged: false })
  schedule.askFull()
  t.equal(schedule.isStale(blue), true, 'everything, while a full pass is asked for')
  schedule.kernelChanged([red])
  schedule.begin(FULL)
  t.equal(schedule.isStale(red), false, 'the full pass looks at it, too')
})

t.test('routers are polled 5 s after a full pass, then 5 s after each poll, and at most 2 % of the time', async t => {
  const schedule = afterFullPass(0)
  t.equal(schedule.next(4_999), null)
  t.strictSame(schedule.next(5_000), { kind: 'routers' })
  schedule.ended({ kind: 'routers' }, { sinceMs: 5_000, nowMs: 5_050 })
  t.equal(schedule.next(10_049), null)
  t.strictSame(schedule.next(10_050), { kind: 'routers' })
  schedule.ended({ kind: 'routers' }, { sinceMs: 10_000, nowMs: 11_000 })
  t.equal(schedule.wakeAtMs(Infinity), 30_000, 'the full pass comes first')
  t.equal(schedule.next(60_999), null)
  t.strictSame(schedule.next(61_000), { kind: 'routers' })
})

t.test('the peers come before single networks, once for all changes, and get a fifth of the time', async t => {
  const peers: Turn = { kind: 'peers' }
  const schedule = afterFullPass(0)
  schedule.stateChanged([red])
  for (let n = 0; n < 3; n++) schedule.peersChanged()
  t.strictSame(schedule.next(0), peers)
  schedule.begin(peers)
  t.strictSame(schedule.next(0), network(red))
  schedule.begin(network(red))
  schedule.ended(peers, { sinceMs: 0, nowMs: 10 })
  t.equal(schedule.isAsked, false)
  schedule.peersChanged()
  t.equal(schedule.isAsked, true)
  t.equal(schedule.next(49), null)
  t.equal(schedule.wakeAtMs(Infinity), 50)
  t.strictSame(schedule.next(50), peers)
  schedule.stateChanged(null)
  schedule.begin(FULL)
  t.equal(schedule.next(50), null, 'a full pass looks at them, too')
})

t.test('a full pass is due every 30 s, and retries when they are due', async t => {
  const schedule = afterFullPass(0)
  schedule.expire(29_999, { host: false, networks: [] })
  t.equal(schedule.isAsked, false)
  schedule.expire(29_999, { host: false, networks: [blue] })
  t.strictSame(schedule.next(29_999), network(blue))
  schedule.begin(network(blue))
  schedule.expire(1, { host: true, networks: [] })
  t.strictSame(schedule.next(1), FULL, 'of the host: by a full pass')
  schedule.begin(FULL)
  schedule.expire(30_000, { host: false, networks: [] })
  t.strictSame(schedule.next(30_000), FULL)
})

t.test('the loop wakes for whatever is due first', async t => {
  const schedule = afterFullPass(0)
  t.equal(schedule.wakeAtMs(Infinity), 5_000)
  t.equal(schedule.wakeAtMs(700), 700)
  t.equal(new Schedule().wakeAtMs(700), 0, 'without a full pass yet, at once')
})

t.test('every wake is followed by a pass that begins after it', async () => {
  const wake = fc.oneof(
    fc.constant(null),
    fc.uniqueArray(fc.integer({ min: 1, max: 90 }), { maxLength: 70, size: 'max' })
  )
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(wake, fc.boolean(), fc.nat({ max: 3 }))), async steps => {
      const schedule = new Schedule()
      const waiting = new Set<Vni>()
      let everything = false
      let nowMs = 0
      const run = (turn: Turn): void => {
        schedule.begin(turn)
        if (turn.kind === 'full') {
          waiting.clear()
          everything = false
        } else if (turn.kind === 'network') waiting.delete(turn.vni)
        schedule.ended(turn, { sinceMs: nowMs, nowMs: (nowMs += 10) })
      }
      for (const [networks, byState, turns] of steps) {
        const vnis = networks?.map(vni => parseVni(vni)) ?? null
        if (byState) schedule.stateChanged(vnis)
        else schedule.kernelChanged(vnis)
        for (const vni of vnis ?? []) waiting.add(vni)
        everything ||= vnis === null
        for (let n = 0; n < turns; n++) {
          const turn = schedule.next(nowMs)
          if (turn !== null) run(turn)
        }
      }
      for (let n = 0; n < 200; n++) {
        const turn = schedule.next(nowMs)
        if (turn !== null) run(turn)
        nowMs += 10
      }
      return waiting.size === 0 && !everything
    })
  )
})
