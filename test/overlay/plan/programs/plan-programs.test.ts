// Plans against a kernel in memory whose tables are flat, as the real ones are: a port's entry has no network but in its value.

import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { parseIfName, parseVni, type IfName, type Vni } from '#model/ids.ts'
import { parseIpv4, type Ipv4 } from '#model/ipv4.ts'
import { parseMac } from '#model/mac.ts'
import { desired, type DesiredHost, type DesiredInput } from '#overlay/plan/network/desired.ts'
import {
  desiredPrograms,
  type DesiredPrograms,
  type HostEntries,
  type ProgramName
} from '#overlay/plan/programs/desired-programs.ts'
import { HOW, networkValue, PORT_BYTES, word } from '#overlay/plan/programs/entries.ts'
import {
  describeProgramOp,
  planPrograms,
  type ObservedPrograms,
  type ProgramOp
} from '#overlay/plan/programs/plan-programs.ts'
import {
  bytesOf,
  decodeEntry,
  emptyTables,
  stationWord,
  TABLES,
  textOf,
  type Key,
  type MutableTableSet,
  type Table
} from '#overlay/plan/programs/tables.ts'
import { anyInput } from '../../arbitraries.ts'
import { addressKey, encodeKey, encodeValue, stationKey, stationValue } from '../../entry-bytes.ts'

const [red, blue] = [parseVni(0xa1), parseVni(0xb2)]
const OLD = 'of an earlier run'

/** The kernel: what each table holds, and which program a device runs. */
class Tables {
  /** Key and value of each entry, a character a byte. */
  readonly entries = Object.fromEntries(TABLES.map(table => [table, new Map()])) as Record<Table, Map<string, string>>
  readonly programs = new Map<number, ProgramName | typeof OLD>()
  /** Of an earlier run, on devices that should run none now. */
  readonly surplus = new Set<number>()

  /** What a pass over the host, or over one network, sees. */
  observe(scope: Vni | null = null): ObservedPrograms {
    const tables = new Map<Vni | null, MutableTableSet>(scope === null ? [] : [[scope, emptyTables()]])
    for (const table of TABLES) {
      for (const { vni, key, value } of this.#decoded(table)) {
        if (scope !== null && vni !== scope) continue
        const found = tables.get(vni) ?? emptyTables()
        tables.set(vni, found)
        found[table].set(key, value)
      }
    }
    const attached = [...this.programs].map(([ifindex, program]) => [ifindex, program !== OLD] as const)
    const surplus = scope === null ? [...this.surplus].map(surplusOn) : []
    return { tables, attached: new Map(attached), surplus }
  }

  run(ops: readonly ProgramOp[]): void {
    for (const op of ops) {
      if (op.kind === 'program-attach') this.programs.set(op.ifindex, op.program)
      else if (op.kind === 'program-detach') this.surplus.delete(op.ifindex)
      else {
        const { vni, table } = op
        const textOfKey = (key: Key): string => textOf(encodeKey(table, vni, key))
        if (op.kind === 'entries-delete') for (const key of op.keys) this.entries[table].delete(textOfKey(key))
        else {
          const { keys, values } = op.entries
          for (const [n, key] of keys.entries())
            this.entries[table].set(textOfKey(key), textOf(encodeValue(table, values[n] ?? 0)))
        }
      }
    }
  }

  /** The entries that `keep` picks, as text that compares. */
  list(keep: (vni: Vni | null, table: Table, key: Key) => boolean = () => true): string[] {
    return TABLES.flatMap(table =>
      this.#decoded(table).flatMap(({ vni, key, bytes }) =>
        keep(vni, table, key) ? [`${String(vni)} ${table} ${hexOf(bytes.key)} ${hexOf(bytes.value)}`] : []
      )
    ).sort()
  }

  #decoded(table: Table): (ReturnType<typeof decodeEntry> & { bytes: { key: string; value: string } })[] {
    return [...this.entries[table]].map(([key, value]) => ({
      ...decodeEntry(table, { key: bytesOf(key), value: bytesOf(value) }),
      bytes: { key, value }
    }))
  }
}

function surplusOn(ifindex: number): ObservedPrograms['surplus'][number] {
  return { device: `eth${ifindex}`, ifindex, program: 'from_underlay' }
}

/** An ifindex for each name, the same every time. */
function indexOf(name: IfName): number {
  return 10 + (Buffer.from(name).reduce((hash, byte) => (hash * 31 + byte) >>> 0, 7) % 1_000_000)
}

const OWN: HostEntries = {
  settings: {
    ...{ vtep: parseIpv4('192.0.2.1'), vxlanPort: 4789, flowsRate: 1, broadcastsRate: 1 },
    ...{ underlay: 2, underlayMtu: 1_500, unwraps: true }
  },
  underlays: [{ name: 'eth0', ifindex: 2, linkBytes: 14 }],
  locals: [parseIpv4('198.51.100.7')]
}

function wanted(
  host: DesiredHost,
  p: { readonly redirects?: boolean; readonly whole?: boolean } = {}
): DesiredPrograms {
  const { redirects = true, whole = true } = p
  return desiredPrograms({ host, ifindexOf: indexOf, redirects, own: whole ? OWN : null, isDirect: () => true })
}

/** A kernel to which a plan was applied. */
function settled(host: DesiredHost): Tables {
  const kernel = new Tables()
  kernel.run(planPrograms(wanted(host), kernel.observe()))
  return kernel
}

/** What another program may do to the tables, or the kernel to the programs. */
type Drift = (kernel: Tables) => void

const anyTable = fc.constantFrom<Table>(...TABLES.filter(table => table !== 'settings'))
const nth = <T>(of: Iterable<T>, at: number): T | undefined => [...of].at(at)
const anyVni = fc.constantFrom(red, 5000 as Vni, 5001 as Vni)
const anyDrift: fc.Arbitrary<Drift> = fc.oneof(
  fc.tuple(anyTable, fc.nat({ max: 9 })).map<Drift>(([table, at]) => ({ entries }) => {
    const key = nth(entries[table].keys(), at)
    if (key !== undefined) entries[table].delete(key)
  }),
  // A value of its own table, but of another entry: a port that says it belongs to another network, among others.
  fc.tuple(anyTable, fc.nat({ max: 9 }), fc.nat({ max: 9 })).map<Drift>(([table, at, from]) => ({ entries }) => {
    const [key, value] = [nth(entries[table].keys(), at), nth(entries[table].values(), from)]
    if (key !== undefined && value !== undefined) entries[table].set(key, value)
  }),
  fc.tuple(anyVni, fc.nat({ max: 20 })).map<Drift>(([vni, n]) => ({ entries }) => {
    entries.vteps.set(textOf(addressKey(vni, (0xc0000200 + n) as Ipv4)), textOf(word(1)))
    entries.tunnels.set(textOf(word(n)), textOf(word(vni)))
    entries.networks.set(textOf(word(vni)), textOf(networkValue({ tunnel: n, told: null })))
  }),
  // What the programs never look up, or a way that there is not.
  fc.tuple(fc.nat({ max: 9 }), fc.nat({ max: 0xffff }), fc.boolean()).map<Drift>(([at, n, other]) => ({ entries }) => {
    const [key = '', value = ''] = nth(entries.stations, at) ?? []
    if (key === '') return
    if (other) entries.stations.set(key.slice(0, 10) + textOf(word(n).subarray(0, 2)), value)
    else entries.stations.set(key, value.slice(0, 4) + textOf(word(n)))
  }),
  fc.nat({ max: 9 }).map<Drift>(at => ({ programs }) => {
    const ifindex = nth(programs.keys(), at)
    if (ifindex !== undefined) programs.set(ifindex, OLD)
  }),
  fc.nat({ max: 9 }).map<Drift>(at => ({ programs }) => {
    const ifindex = nth(programs.keys(), at)
    if (ifindex !== undefined) programs.delete(ifindex)
  }),
  fc.nat({ max: 3 }).map<Drift>(
    ifindex =>
      ({ surplus }) =>
        void surplus.add(ifindex)
  )
)

type Case = {
  readonly host: DesiredHost
  readonly kernel: Tables
  readonly input: DesiredInput
  readonly redirects: boolean
}

const anyCase: fc.Arbitrary<Case> = fc
  .record({
    input: anyInput,
    past: anyInput,
    drifts: fc.array(anyDrift, { maxLength: 6, size: 'max' }),
    redirects: fc.boolean()
  })
  .map(({ input, past, drifts, redirects }) => {
    const kernel = settled(desired(past))
    for (const drift of drifts) drift(kernel)
    return { host: desired(input), kernel, input, redirects }
  })

const runs = { numRuns: 1000 }

t.test('a plan brings any tables into the desired state, and then there is nothing to do', async t => {
  const counts = new Map<ProgramOp['kind'], number>()
  fc.assert(
    fc.property(anyCase, ({ host, kernel, redirects }) => {
      const want = wanted(host, { redirects })
      const ops = planPrograms(want, kernel.observe())
      for (const kind of new Set(ops.map(({ kind }) => kind))) counts.set(kind, (counts.get(kind) ?? 0) + 1)
      kernel.run(ops)
      assert.deepEqual(planPrograms(want, kernel.observe()).map(describeProgramOp), [])
      const fresh = new Tables()
      fresh.run(planPrograms(want, fresh.observe()))
      assert.deepEqual(kernel.list(), fresh.list())
      for (const { ifindex, program } of want.places.values()) assert.equal(kernel.programs.get(ifindex), program)
    }),
    runs
  )
  for (const kind of ['entries-set', 'entries-delete', 'program-attach', 'program-detach'] as const) {
    t.ok((counts.get(kind) ?? 0) > 100, `${kind} in ${counts.get(kind) ?? 0} of 1,000`)
  }
})

t.test('a pass over one network touches nothing of the others', async t => {
  let touched = 0
  fc.assert(
    fc.property(anyCase, fc.nat({ max: 2 }), ({ input, kernel, redirects }, at) => {
      const network = [...input.networks][at]
      assert(network !== undefined)
      const want = wanted(desired({ ...input, networks: [network] }), { redirects, whole: false })
      // An ifindex is one entry: what says that it belongs to another network becomes this one's again.
      const isTaken = (table: Table, key: Key): boolean => want.tables.get(network.vni)?.[table].has(key) === true
      const others = (): string[] => kernel.list((vni, table, key) => vni !== network.vni && !isTaken(table, key))
      const foreign = (): [number, string][] => [...kernel.programs].filter(([ifindex]) => !want.places.has(ifindex))
      const before = others()
      const programs = foreign()
      const ops = planPrograms(want, kernel.observe(network.vni))
      touched += Number(ops.length > 0)
      assert(ops.every(({ vni }) => vni === network.vni))
      kernel.run(ops)
      assert.deepEqual(others(), before)
      assert.deepEqual(foreign(), programs)
      assert.deepEqual(planPrograms(want, kernel.observe(network.vni)), [])
    }),
    runs
  )
  t.ok(touched > 100, `${touched} of 1,000`)
})

function hexOf(text: string): string {
  return Buffer.from(bytesOf(text)).toString('hex')
}

/** What a network has, with one entry in each of these tables. */
function filled(vni: Vni | null, ...tables: readonly Table[]): readonly [Vni | null, MutableTableSet] {
  const set = emptyTables()
  for (const table of tables) set[table].set(`key ${String(vni)}`, 'value')
  return [vni, set]
}

function observing(...sets: readonly (readonly [Vni | null, MutableTableSet])[]): ObservedPrograms {
  return { tables: new Map(sets), attached: new Map(), surplus: [] }
}

function wanting(...sets: readonly (readonly [Vni | null, MutableTableSet])[]): DesiredPrograms {
  return { tables: new Map(sets), places: new Map(), services: new Map() }
}

const place = { device: parseIfName('eth0'), ifindex: 2, program: 'from_underlay' as const, vni: null }

t.test('entries are set before a program runs, a port after what it leads to, and deletes are last', async t => {
  const { tables } = wanting(
    filled(red, 'ports', 'stations', 'networks', 'tunnels', 'neighbours6', 'neighbours', 'vteps'),
    filled(null, 'settings', 'underlays', 'locals')
  )
  const observed = { ...observing(filled(blue, 'ports', 'vteps')), surplus: [surplusOn(3)] }
  const ops = planPrograms({ tables, places: new Map([[2, place]]), services: new Map() }, observed)
  t.same(ops.map(describeProgramOp), [
    'set 1 settings',
    'set 1 underlays',
    'set 1 locals',
    'set 1 vteps (vni 161)',
    'set 1 neighbours (vni 161)',
    'set 1 neighbours6 (vni 161)',
    'set 1 tunnels (vni 161)',
    'set 1 networks (vni 161)',
    'set 1 stations (vni 161)',
    'set 1 ports (vni 161)',
    'run from_underlay on eth0',
    'stop from_underlay on eth3',
    'delete 1 vteps (vni 178)',
    'delete 1 ports (vni 178)'
  ])
})

t.test('only what differs is set, and only what is surplus is deleted', async t => {
  const want = wanting(filled(red, 'vteps'))
  const held = (value: string, ...surplus: readonly string[]): ObservedPrograms => {
    const [, tables] = filled(red)
    for (const key of surplus) tables.vteps.set(key, 'value')
    tables.vteps.set('key 161', value)
    return observing([red, tables])
  }
  t.same(planPrograms(want, held('value')), [])
  t.same(planPrograms(want, held('another value')), [
    { kind: 'entries-set', vni: red, table: 'vteps', entries: { keys: ['key 161'], values: ['value'] } }
  ])
  t.same(planPrograms(want, held('value', 'a', 'b')), [
    { kind: 'entries-delete', vni: red, table: 'vteps', keys: ['a', 'b'] }
  ])
})

t.test('a network that is not wanted any more loses all entries, and no other network does', async t => {
  const everything = ['vteps', 'neighbours', 'neighbours6', 'tunnels', 'networks', 'stations', 'ports'] as const
  const observed = observing(filled(red, 'vteps'), filled(blue, ...everything))
  const ofBlue = everything.map(table => `delete 1 ${table} (vni 178)`)
  t.same(planPrograms(wanting(filled(red, 'vteps')), observed).map(describeProgramOp), ofBlue)
  t.same(planPrograms(wanting(), observed).map(describeProgramOp), ['delete 1 vteps (vni 161)', ...ofBlue])
})

t.test("an ifindex that was another network's is its new network's, and is not deleted", async t => {
  for (const table of ['ports', 'tunnels'] as const) {
    const kernel = new Tables()
    const more = table === 'tunnels' ? 0 : PORT_BYTES - 4
    const of = (vni: Vni): string => textOf(word(vni)) + '\0'.repeat(more)
    kernel.entries[table].set(textOf(word(7)), of(blue))
    const tables = emptyTables()
    tables[table].set(7, table === 'tunnels' ? red : of(red))
    const want: DesiredPrograms = { tables: new Map([[red, tables]]), places: new Map(), services: new Map() }
    kernel.run(planPrograms(want, kernel.observe()))
    t.same([...kernel.entries[table]], [[textOf(word(7)), of(red)]], table)
  }
  const kernel = new Tables()
  const mac = parseMac('02:00:00:00:00:01')
  const key = (vni: Vni): string => textOf(stationKey(vni, mac))
  const value = textOf(stationValue({ to: 7, how: 'peer', tells: 1 }))
  kernel.entries.stations.set(key(blue), value)
  const tables = emptyTables()
  tables.stations.set(mac, stationWord({ to: 7, how: HOW.peer, tells: 1 }))
  kernel.run(
    planPrograms({ tables: new Map([[red, tables]]), places: new Map(), services: new Map() }, kernel.observe())
  )
  t.same([...kernel.entries.stations], [[key(red), value]], 'a station of another network is another station')
})

t.test('a device runs the program of this run: none, or one of an earlier run, is not enough', async t => {
  const want: DesiredPrograms = { tables: new Map(), places: new Map([[2, place]]), services: new Map() }
  const ops = (attached: ObservedPrograms['attached']): readonly ProgramOp[] =>
    planPrograms(want, { ...observing(), attached })
  for (const attached of [new Map(), new Map([[2, false]]), new Map([[3, true]])]) {
    t.same(ops(attached), [{ kind: 'program-attach', ...place }])
  }
  t.same(
    ops(
      new Map([
        [2, true],
        [3, true]
      ])
    ),
    []
  )
})
