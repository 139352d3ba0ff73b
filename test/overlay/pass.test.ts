import fc from 'fast-check'
import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import { parseVni } from '#model/ids.ts'
import { runPart, runPass, type Look } from '#overlay/pass.ts'
import { FakePart } from './fake-part.ts'

const red = parseVni(7)

function look(change: Partial<Look> = {}): Look {
  const desired = {
    host: () => ({ networks: new Map(), peers: new Map<never, never>() }),
    gateways: () => ({
      routers: new Map(),
      transit: { base: 0 as never, prefixLength: 8 },
      guarded: [],
      opened: [],
      underlay: []
    })
  }
  return { scope: null, trust: false, mayRemove: true, desired, ...change }
}

function three(): { parts: readonly [FakePart, FakePart, FakePart]; trace: string[] } {
  const trace: string[] = []
  const filters = new FakePart('filters', 'filter', trace)
  const devices = new FakePart('devices', 'forwarding', trace)
  const gateways = new FakePart('gateways', 'egress', trace)
  return { parts: [filters, devices, gateways], trace }
}

t.test('parts run one after the other, each observed after the one before it was executed', async t => {
  const { parts, trace } = three()
  for (const part of parts) part.desired.add('x')
  const reports = await runPass(parts, look())
  t.strictSame(trace, [
    'filters observes',
    'filters executes add x',
    'devices observes',
    'devices executes add x',
    'gateways observes',
    'gateways executes add x'
  ])
  t.strictSame(
    reports.map(({ part, done }) => [part, done.map(op => op.text())]),
    [
      ['filters', ['add x']],
      ['devices', ['add x']],
      ['gateways', ['add x']]
    ]
  )
})

t.test('a pass over one network leaves the host-wide filters out', async t => {
  const { parts, trace } = three()
  const reports = await runPass(parts, look({ scope: red }))
  t.strictSame(
    reports.map(({ part }) => part),
    ['devices', 'gateways']
  )
  t.notOk(trace.some(line => line.startsWith('filters')))
  t.equal(parts[1].looks[0]?.scope, red)
})

t.test('the desired state is read once a pass, when the first part asks for it', async t => {
  let reads = 0
  const { parts } = three()
  const desired = {
    ...look().desired,
    host: () => {
      reads++
      return { networks: new Map(), peers: new Map<never, never>() }
    }
  }
  await runPass(parts, look({ desired }))
  t.equal(reads, 0)
  for (const part of parts) part.looks[0]?.desired.host()
  t.equal(reads, 1)
})

t.test('a part that cannot be observed does not stop the others, unless it is required', async t => {
  const broken = new VxmeshError('ERR_KERNEL', 'no socket')
  for (const [index, required] of [
    [0, false],
    [1, true],
    [2, false]
  ] as const) {
    const { parts } = three()
    parts[index].observeError = broken
    for (const part of parts) part.desired.add('x')
    const outcome = await runPass(parts, look()).catch((err: unknown) => err)
    if (required) {
      t.equal(outcome, broken)
      t.notOk(parts[2].kernel.has('x'), 'the parts after it do not run')
      continue
    }
    t.match(outcome, { [index]: { problems: [{ vni: null, error: broken }], done: [], missing: [] } })
    for (const [i, part] of parts.entries()) t.equal(part.kernel.has('x'), i !== index, part.name)
    t.strictSame(parts[index].left, [], 'it remembers nothing of such a pass')
  }
})

t.test('any thrown value becomes a typed error', async t => {
  const { parts } = three()
  parts[0].observeError = new TypeError('bug')
  const [report] = await runPass(parts, look())
  t.ok(report?.problems[0]?.error instanceof VxmeshError)
})

t.test('while nothing may be removed, removals are deferred and the rest is done', async t => {
  const part = new FakePart('devices', 'forwarding')
  part.kernel.add('old')
  part.desired.add('new')
  const held = await runPart(part, look({ mayRemove: false }))
  t.strictSame([...part.kernel], ['old', 'new'])
  t.strictSame(
    held.deferred.map(op => op.text()),
    ['delete old']
  )
  t.strictSame(
    held.attempted.map(op => op.text()),
    ['add new']
  )
  const free = await runPart(part, look())
  t.strictSame([...part.kernel], ['new'])
  t.strictSame(free.deferred, [])
})

t.test('a refused op is a failure and a problem; the others are done, and the part learns what is left', async t => {
  const part = new FakePart('gateways', 'egress')
  part.vni = red
  part.desired.add('a').add('b')
  part.refused.add('a')
  const planned = { vni: red, error: new VxmeshError('ERR_KERNEL', 'a name is taken'), effect: 'no way out' }
  part.planned = [planned]
  const report = await runPart(part, look())
  t.strictSame(
    report.done.map(op => op.text()),
    ['add b']
  )
  t.match(report.failures, [{ op: { kind: 'add', vni: red }, error: { message: 'a is refused' } }])
  t.match(report.problems, [planned, { vni: red, error: { message: 'a is refused' } }])
  t.strictSame(part.left, [report.problems])
})

t.test('a part that is overtaken is observed and planned again, up to its attempts', async t => {
  for (const [attempts, interrupted, fails] of [
    [3, 2, false],
    [3, 3, true],
    [1, 0, false],
    [1, 1, true]
  ] as const) {
    const part = new FakePart('filters', 'filter')
    Object.assign(part, { attempts, interrupted })
    part.desired.add('x')
    const outcome = runPart(part, look())
    const title = `${interrupted} of ${attempts}`
    if (fails) {
      await t.rejects(
        outcome,
        { code: 'ERR_KERNEL', message: /the filters cannot be set: somebody else was faster/ },
        title
      )
      t.strictSame(part.left, [], 'it is not settled')
    } else {
      t.equal((await outcome).done.length, 1, title)
      t.equal(part.looks.length, interrupted + 1, 'each attempt observes again')
    }
  }
})

t.test('from any state, one pass reaches the desired state and the next has nothing to do', async () => {
  const words = fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e'))
  await fc.assert(
    fc.asyncProperty(words, words, fc.boolean(), async (desired, kernel, mayRemove) => {
      const part = new FakePart('devices', 'forwarding')
      for (const word of desired) part.desired.add(word)
      for (const word of kernel) part.kernel.add(word)
      await runPart(part, look({ mayRemove }))
      const want = mayRemove ? desired : [...new Set([...desired, ...kernel])]
      const again = await runPart(part, look({ mayRemove }))
      return [...part.kernel].sort().join() === [...want].sort().join() && again.attempted.length === 0
    })
  )
})
