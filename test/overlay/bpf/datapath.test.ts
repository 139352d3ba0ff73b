// Our programs in this kernel: all of them or none, and what is found again of an earlier run.

import { copyFileSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import {
  closeDatapath,
  loadDatapath,
  PROGRAMS,
  readObjects,
  type Datapath,
  type Program,
  type ProgramName
} from '#overlay/bpf/datapath.ts'
import { findPrograms, readProgram } from '#overlay/bpf/filter.ts'
import type { BpfMap } from '#overlay/bpf/map.ts'
import { Btf, type MapShape } from '#overlay/bpf/object/btf.ts'
import type { BpfObject, ProgramCode } from '#overlay/bpf/object/object.ts'
import { readLinks } from '#overlay/kernel/kernel.ts'
import { getLinks } from '#overlay/netlink/link.ts'
import { word } from '#overlay/plan/programs/entries.ts'
import { programInfo } from '#platform/bpf.ts'
import { scratch } from '#test/api/scratch.ts'
import { objectBytes, OBJECTS } from './object/objects.ts'
import { Scratch } from './scratch.ts'

/** Instructions that the verifier follows before it gives up (BPF_COMPLEXITY_LIMIT_INSNS). */
const VERIFIER_LIMIT = 1_000_000
const skip = process.getuid?.() === 0 ? false : 'needs root: BPF programs'
const objects = readObjects()
/** A write to the frame pointer, r10 = 0: the verifier refuses it. */
const FORBIDDEN = [0xb7, 10, 0, 0, 0, 0, 0, 0]

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}

function load(t: Test, from: readonly BpfObject[] = objects, attached: readonly number[] = []): Datapath {
  const datapath = loadDatapath(from, attached)
  t.teardown(() => closeDatapath(datapath))
  return datapath
}

function programOf({ programs }: Datapath, name: ProgramName): Program {
  const program = programs.get(name)
  if (program === undefined) throw new Error(`no program ${name}`)
  return program
}

function mapOf({ maps }: Datapath, name: string): BpfMap {
  const map = maps.get(name)
  if (map === undefined) throw new Error(`no map ${name}`)
  return map
}

/** The objects with a program of them changed. */
function withProgram(name: ProgramName, change: (program: ProgramCode) => Partial<ProgramCode>): readonly BpfObject[] {
  return objects.map(object => ({
    ...object,
    programs: object.programs.map(program => (program.name === name ? { ...program, ...change(program) } : program))
  }))
}

function withMap(name: string, change: Partial<MapShape>): readonly BpfObject[] {
  return objects.map(object => ({
    ...object,
    maps: object.maps.map(shape => (shape.name === name ? { ...shape, ...change } : shape))
  }))
}

/** With another instruction first. */
function withCode(name: ProgramName, instruction: readonly number[]): readonly BpfObject[] {
  return withProgram(name, ({ instructions }) => {
    const changed = new Uint8Array(instructions)
    changed.set(instruction)
    return { instructions: changed }
  })
}

t.test('objects that are missing or damaged are refused by their path', async t => {
  const folder = join(scratch(t), 'bpf')
  const overlay = join(folder, 'overlay.o')
  mkdirSync(folder)
  t.throws(() => readObjects(folder), { code: 'ERR_UNSUPPORTED', message: /container\.o$/, cause: { code: 'ENOENT' } })
  for (const name of OBJECTS) writeFileSync(join(folder, `${name}.o`), objectBytes(name))
  t.strictSame(readObjects(folder), objects)
  truncateSync(overlay, 1_000)
  t.throws(() => readObjects(folder), {
    code: 'ERR_UNSUPPORTED',
    message: /overlay\.o$/,
    cause: { name: 'RangeError' }
  })
  copyFileSync('/proc/self/exe', overlay)
  t.throws(
    () => readObjects(folder),
    { code: 'ERR_UNSUPPORTED', cause: { message: /for BPF/ } },
    'a program of this host'
  )
  writeFileSync(overlay, '')
  t.throws(() => readObjects(folder), { code: 'ERR_UNSUPPORTED', cause: { message: /not an ELF file/ } })
})

t.test('all programs are loaded, their maps are shared, and closing leaves nothing', { skip }, async t => {
  const before = descriptors()
  const datapath = loadDatapath(objects)
  t.same([...datapath.programs.keys()], PROGRAMS)
  const ids = [...datapath.programs.values()].map(({ id }) => id)
  t.equal(new Set(ids).size, PROGRAMS.length)
  for (const { name, fd, id, same, figures } of datapath.programs.values()) {
    t.match(programInfo(fd), { id, name })
    t.same([...same], [id])
    const [, processed = NaN] = /processed (\d+) insns/.exec(figures) ?? []
    t.comment(`${name}: ${figures}`)
    t.ok(Number(processed) * 10 <= VERIFIER_LIMIT, `${name}: ${processed} instructions`)
  }
  t.same(
    [...datapath.maps.keys()].sort(),
    [...new Set(objects.flatMap(({ maps }) => maps.map(({ name }) => name)))].sort()
  )
  const used = (name: ProgramName): readonly number[] => programInfo(programOf(datapath, name).fd)?.mapIds ?? []
  t.ok(
    used('to_host').every(id => used('from_container').includes(id)),
    'drops are counted in one map'
  )
  t.equal(descriptors(), before + PROGRAMS.length + datapath.maps.size)
  closeDatapath(datapath)
  t.equal(descriptors(), before)
})

t.test(
  'the verifier accepts functions that it does not verify by themselves, as on a kernel without types',
  { skip },
  t => {
    const statics = objects.map(object => ({ ...object, btf: new Btf(object.btf).withStaticFunctions() }))
    t.ok(
      statics.some(({ btf }, at) => !Buffer.from(btf).equals(objects[at]?.btf ?? new Uint8Array())),
      'there are some'
    )
    for (const { name, figures } of load(t, statics).programs.values()) {
      const [, processed = NaN] = /processed (\d+) insns/.exec(figures) ?? []
      t.ok(Number(processed) * 4 <= VERIFIER_LIMIT, `${name}: ${processed} instructions`)
    }
    t.end()
  }
)

t.test('a program that the verifier refuses is named with its words, and nothing stays loaded', { skip }, async t => {
  const before = descriptors()
  for (const name of PROGRAMS) {
    t.throws(
      () => loadDatapath(withCode(name, FORBIDDEN)),
      {
        code: 'ERR_KERNEL',
        message: new RegExp(`^load BPF program ${name}: .*; the verifier says:\n.*frame pointer is read only`, 's')
      },
      name
    )
    t.equal(descriptors(), before, `no descriptor is left after ${name}`)
  }
})

t.test('of a long way through a program only the end is told', { skip }, async t => {
  const late = withProgram('from_container', ({ instructions, references }) => {
    const [station = 0] = [...references].findLast(([, map]) => map === 'vxm_stations') ?? []
    const changed = new Uint8Array(instructions)
    // After the two halves of the instruction that loads the address of the map.
    changed.set(FORBIDDEN, station + 16)
    return { instructions: changed }
  })
  t.throws(() => loadDatapath(late), {
    code: 'ERR_KERNEL',
    message:
      /^load BPF program from_container: .*\n(.*\n){0,11}frame pointer is read only\n(.*\n)*processed \d{3,} insns.*$/
  })
  try {
    loadDatapath(late)
  } catch (err) {
    t.equal((err as Error).message.split('\n').length, 13)
  }
})

t.test('whatever the kernel refuses, no descriptor stays open', { skip }, async t => {
  const before = descriptors()
  const noTypes = objects.map((object, i) => (i === 2 ? { ...object, btf: new Uint8Array(24) } : object))
  const noInstructions = withProgram('from_underlay', () => ({ instructions: new Uint8Array(), references: new Map() }))
  const noMap = withProgram('to_host', ({ references }) => ({
    references: new Map([...references.keys()].map(offset => [offset, 'no_such_map']))
  }))
  const cases: readonly [title: string, from: readonly BpfObject[], message: RegExp][] = [
    ['types', noTypes, /^load the types of a program: .*EINVAL/],
    ['a map without entries', withMap('vxm_drops', { maxEntries: 0 }), /^create BPF map vxm_drops: .*EINVAL/],
    ['a map of an unknown type', withMap('vxm_vteps', { type: 999 }), /^create BPF map vxm_vteps: .*EINVAL/],
    ['a program without instructions', noInstructions, /^load BPF program from_underlay: [^;]*$/],
    ['a reference to no map', noMap, /^load BPF program to_host: /],
    ['a map that is too narrow', withMap('vxm_ports', narrow('vxm_ports')), /from_container: .*invalid access to map/s]
  ]
  for (const [title, from, message] of cases) {
    t.throws(() => loadDatapath(from), { code: 'ERR_KERNEL', message }, title)
    t.equal(descriptors(), before, title)
  }
})

/** A value that is too short, without its type. */
function narrow(map: string): Partial<MapShape> {
  const shape = objects.flatMap(({ maps }) => maps).find(({ name }) => name === map)
  return { key: { bytes: shape?.key.bytes ?? 0, typeId: 0 }, value: { bytes: 4, typeId: 0 } }
}

/** A run that has attached a program to a device, and has ended. @returns the ids of attached programs */
function earlierRun(
  world: Scratch,
  p: {
    readonly from?: readonly BpfObject[]
    readonly attached?: readonly number[]
    readonly runs: Readonly<Record<string, ProgramName>>
    readonly fill?: (datapath: Datapath) => void
  }
): readonly number[] {
  const datapath = loadDatapath(p.from ?? objects, p.attached ?? [])
  for (const [device, name] of Object.entries(p.runs)) {
    world.attach(world.add(device), { fd: programOf(datapath, name).fd, name })
  }
  p.fill?.(datapath)
  closeDatapath(datapath)
  return attachedIn(world)
}

function attachedIn({ socket }: Scratch): readonly number[] {
  return findPrograms(socket, readLinks(socket, getLinks())).map(({ id }) => id)
}

function put(datapath: Datapath, map: string, key: number): void {
  const { valueBytes, shape } = mapOf(datapath, map)
  const bytes = new Uint8Array(shape.key.bytes)
  bytes.set(word(key))
  mapOf(datapath, map).set([{ key: bytes, value: new Uint8Array(valueBytes).fill(1) }])
}

/** The first four bytes of each key. */
function keysOf(datapath: Datapath, map: string): number[] {
  return mapOf(datapath, map)
    .entries()
    .map(({ key }) => new DataView(key.buffer, key.byteOffset).getUint32(0, true))
    .sort((a, b) => a - b)
}

t.test(
  'the maps of the programs that are attached go on, with their entries; all others begin empty',
  { skip },
  async t => {
    const before = descriptors()
    const world = new Scratch(t)
    const withSocket = descriptors()
    const fill = (datapath: Datapath): void => {
      for (const map of ['vxm_ports', 'vxm_stations', 'vxm_traffic', 'vxm_tunnels', 'vxm_vteps']) put(datapath, map, 7)
    }
    const ids = earlierRun(world, { runs: { a: 'from_container' }, fill })
    t.equal(ids.length, 1)
    t.equal(descriptors(), withSocket)
    const next = loadDatapath(objects, ids)
    for (const map of ['vxm_ports', 'vxm_stations', 'vxm_traffic']) t.same(keysOf(next, map), [7], map)
    for (const map of ['vxm_tunnels', 'vxm_vteps', 'vxm_underlays']) t.same(keysOf(next, map), [], map)
    t.equal(descriptors(), withSocket + PROGRAMS.length + next.maps.size)
    put(next, 'vxm_ports', 8)
    closeDatapath(next)
    t.equal(descriptors(), withSocket)
    t.same(keysOf(load(t, objects, ids), 'vxm_ports'), [7, 8], 'they are the maps of the program that runs')
    t.ok(withSocket > before)
  }
)

t.test('without a device that runs our programs nothing is left of them', { skip }, async t => {
  const world = new Scratch(t)
  const fill = (datapath: Datapath): void => put(datapath, 'vxm_ports', 7)
  const ids = earlierRun(world, { runs: { a: 'from_container' }, fill })
  t.same(keysOf(load(t), 'vxm_ports'), [], 'a run that does not know of them')
  world.remove('a')
  t.same(attachedIn(world), [])
  t.same(keysOf(load(t, objects, [0, 0x7fffffff, ...attachedIn(world)]), 'vxm_ports'), [])
  t.equal(ids.length, 1)
})

t.test('a map of another shape is not adopted, and the rest is', { skip }, async t => {
  const cases: readonly [title: string, change: Partial<MapShape>][] = [
    ['another number of entries', { maxEntries: 4_096 }],
    ['other flags', { flags: 1 | 64 }],
    ['another type', { type: 5 }],
    ['a longer value', { value: { bytes: 40, typeId: 0 }, key: { bytes: 4, typeId: 0 } }]
  ]
  for (const [title, change] of cases) {
    const world = new Scratch(t)
    const fill = (datapath: Datapath): void => {
      for (const map of ['vxm_ports', 'vxm_stations']) put(datapath, map, 7)
    }
    const ids = earlierRun(world, { from: withMap('vxm_ports', change), runs: { a: 'from_container' }, fill })
    const before = descriptors()
    const next = loadDatapath(objects, ids)
    t.same(keysOf(next, 'vxm_ports'), [], title)
    t.same(keysOf(next, 'vxm_stations'), [7], title)
    t.notOk(programOf(next, 'from_container').same.has(ids[0] ?? 0), `${title}: the program must be replaced`)
    t.equal(descriptors(), before + PROGRAMS.length + next.maps.size, 'the map that is not adopted is closed')
    closeDatapath(next)
    t.equal(descriptors(), before)
  }
})

t.test('of two earlier runs the newer one goes on', { skip }, async t => {
  const world = new Scratch(t)
  earlierRun(world, { runs: { a: 'from_container' }, fill: datapath => put(datapath, 'vxm_ports', 1) })
  const ids = earlierRun(world, { runs: { b: 'from_container' }, fill: datapath => put(datapath, 'vxm_ports', 2) })
  t.equal(ids.length, 2)
  t.same(keysOf(load(t, objects, ids), 'vxm_ports'), [2])
  t.same(keysOf(load(t, objects, [...ids].reverse()), 'vxm_ports'), [2], 'in whichever order')
})

t.test('maps of a program that is not ours are left alone, whatever their names', { skip }, async t => {
  const world = new Scratch(t)
  const theirs = loadDatapath(withProgram('from_container', () => ({ name: 'their_program' })))
  const program = theirs.programs.get('their_program')
  put(theirs, 'vxm_ports', 7)
  // The filter has our name, the program in it has its own.
  world.attach(world.add('a'), { fd: program?.fd ?? -1, name: 'from_container' })
  closeDatapath(theirs)
  const ids = attachedIn(world)
  t.equal(ids.length, 1)
  const next = load(t, objects, ids)
  t.same(keysOf(next, 'vxm_ports'), [])
  t.notOk(programOf(next, 'from_container').same.has(ids[0] ?? 0))
})

t.test('a program of an earlier run is the same if its instructions and its maps are', { skip }, async t => {
  const world = new Scratch(t)
  const runs = { a: 'from_container', b: 'to_host' } as const
  const ids = earlierRun(world, { runs })
  const [container, host] = ['a', 'b'].map(device => readProgram(world.socket, world.ifindexOf(device))?.id ?? 0)
  t.same(ids, [container, host])
  const next = load(t, objects, ids)
  for (const [name, id, other] of [
    ['from_container', container, host],
    ['to_host', host, container]
  ] as const) {
    const { same, id: own } = programOf(next, name)
    t.same([...same].sort(), [id, own].sort(), name)
    t.notOk(same.has(other ?? 0), `${name} is not the other one`)
  }
  const fresh = load(t)
  t.notOk(programOf(fresh, 'from_container').same.has(container ?? 0), 'with other maps')
  const other = load(t, withVerdict('to_host', 0), ids)
  t.notOk(programOf(other, 'to_host').same.has(host ?? 0), 'with other instructions')
  t.ok(programOf(other, 'from_container').same.has(container ?? 0), 'each by itself')
})

/** With another result instead of 2, which drops a packet. */
function withVerdict(name: ProgramName, verdict: number): readonly BpfObject[] {
  return withProgram(name, ({ instructions }) => {
    const changed = new Uint8Array(instructions)
    // r0 = 2, or its lower half.
    const isDrop = (at: number): boolean => /^b[47]00000002000000$/.test(hexOf(instructions.subarray(at, at + 8)))
    const at = Array.from({ length: instructions.length / 8 }, (_, i) => i * 8).find(isDrop)
    if (at === undefined) throw new Error('it drops nothing')
    changed[at + 4] = verdict
    return { instructions: changed }
  })
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

t.test('a run that fails leaves what an earlier one has attached, and no descriptor', { skip }, async t => {
  const world = new Scratch(t)
  const ids = earlierRun(world, { runs: { a: 'from_container' }, fill: datapath => put(datapath, 'vxm_ports', 7) })
  const before = descriptors()
  t.throws(() => loadDatapath(withCode('from_underlay', FORBIDDEN), ids), { code: 'ERR_KERNEL' })
  t.equal(descriptors(), before)
  t.same(attachedIn(world), ids)
  t.same(keysOf(load(t, objects, ids), 'vxm_ports'), [7])
})
