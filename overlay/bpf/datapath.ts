// Loads our programs and their maps into the kernel: all of them, or none. Nothing is pinned: a filter holds its program,
// and a program its maps. So the maps live as long as any device runs one of our programs, and an agent that starts finds
// them by the programs that are attached.

import { closeSync, existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { VxmeshError } from '#model/errors.ts'
import * as bpf from '#platform/bpf.ts'
import { errnoName, errnoText } from '#platform/libc.ts'
import { kernelError } from '#platform/netlink-error.ts'
import { BpfMap } from './map.ts'
import { Btf, type MapShape } from './object/btf.ts'
import { readObject, withMaps, type BpfObject, type ProgramCode } from './object/object.ts'

const OBJECTS = resolve(import.meta.dirname, '../../dist/bpf')
/** Without types of its own (CONFIG_DEBUG_INFO_BTF) a kernel verifies no function by itself, because it cannot tell its context. */
const KERNEL_TYPES = '/sys/kernel/btf/vmlinux'
const NAMES = ['container', 'overlay', 'underlay'] as const
export const PROGRAMS = ['from_container', 'to_container', 'from_overlay', 'to_host', 'from_underlay'] as const
export type ProgramName = (typeof PROGRAMS)[number]
/** Of a program whose verification was interrupted. */
const RETRIES = 20
/** Of what the verifier says of a refused program, the reason comes last. */
const LOG_LINES = 12

export type Program = {
  readonly name: string
  readonly fd: number
  /** The kernel's, unique while it runs. */
  readonly id: number
  /** Ids of programs of an earlier run that are this one, with the same maps: what runs them need not change. */
  readonly same: ReadonlySet<number>
  /** The verifier's figures: instructions, states, stack. */
  readonly figures: string
}

export type Datapath = {
  readonly programs: ReadonlyMap<string, Program>
  readonly maps: ReadonlyMap<string, BpfMap>
}

/** @throws ERR_UNSUPPORTED when an object is missing or cannot be read */
export function readObjects(folder = OBJECTS): readonly BpfObject[] {
  return NAMES.map(name => {
    const path = join(folder, `${name}.o`)
    try {
      return readObject(new Uint8Array(readFileSync(path)))
    } catch (err) {
      throw new VxmeshError('ERR_UNSUPPORTED', `cannot read the program ${path}`, { cause: err })
    }
  })
}

/**
 * The maps of our programs among these, of the newest program that has each. Maps of an earlier run, whose entries and
 * counters go on.
 */
function findMaps(programIds: readonly number[]): ReadonlyMap<string, FoundMap> {
  const found = new Map<string, FoundMap>()
  const newestFirst = [...new Set(programIds)].sort((a, b) => b - a)
  for (const id of newestFirst) {
    const program = using(bpf.programById(id), bpf.programInfo)
    if (program === null || !(PROGRAMS as readonly string[]).includes(program.name)) continue
    for (const mapId of program.mapIds) {
      const { value: fd } = bpf.mapById(mapId)
      if (fd < 0) continue
      const info = bpf.mapInfo(fd)
      if (info === null || found.has(info.name)) closeSync(fd)
      else found.set(info.name, { fd, info })
    }
  }
  return found
}

/** The programs among these with the same instructions and the same maps. */
function samePrograms(ids: readonly number[], loaded: bpf.ProgramInfo | null): ReadonlySet<number> {
  if (loaded === null) return new Set()
  const maps = (info: bpf.ProgramInfo): string => [...info.mapIds].sort((a, b) => a - b).join()
  const isSame = (info: bpf.ProgramInfo | null): boolean =>
    info !== null && info.name === loaded.name && info.tag === loaded.tag && maps(info) === maps(loaded)
  return new Set([loaded.id, ...ids.filter(id => isSame(using(bpf.programById(id), bpf.programInfo)))])
}

type FoundMap = { readonly fd: number; readonly info: bpf.MapInfo }

function using<T>({ value: fd }: { readonly value: number }, read: (fd: number) => T | null): T | null {
  if (fd < 0) return null
  try {
    return read(fd)
  } finally {
    closeSync(fd)
  }
}

/**
 * Maps with one name are one map, whichever objects refer to them.
 * Goes on with the maps of programs of an earlier run. One of another shape is left, and the caller fills the new one.
 * @param attached ids of programs that are attached to devices of this host, ours or not
 * @throws ERR_KERNEL with the verifier's words when a program is refused; nothing stays loaded
 */
export function loadDatapath(objects: readonly BpfObject[], attached: readonly number[] = []): Datapath {
  const found = findMaps(attached)
  const opened = [...found.values()].map(({ fd }) => fd)
  const keep = (fd: number): number => {
    opened.push(fd)
    return fd
  }
  const types: number[] = []
  try {
    const maps = new Map<string, BpfMap>()
    const programs = new Map<string, Program>()
    const processors = possibleProcessors()
    for (const object of objects) {
      const btf = open('load the types of a program', bpf.loadBtf(typesFor(object)))
      types.push(btf)
      for (const shape of object.maps.filter(({ name }) => !maps.has(name))) {
        const earlier = found.get(shape.name)
        const fd = earlier !== undefined && hasShape(earlier.info, shape) ? earlier.fd : keep(createMap(shape, btf))
        maps.set(shape.name, new BpfMap(shape, fd, processors))
      }
      for (const program of object.programs) {
        const loaded = loadProgram({ program, object, btf, maps, attached })
        keep(loaded.fd)
        programs.set(loaded.name, loaded)
      }
    }
    const used = new Set([...maps.values()].map(({ fd }) => fd))
    for (const { fd } of found.values()) if (!used.has(fd)) closeSync(fd)
    return { programs, maps }
  } catch (err) {
    opened.forEach(closeSync)
    throw err
  } finally {
    // The kernel keeps them with the maps and programs.
    types.forEach(closeSync)
  }
}

/** Programs that are attached to a device stay, and so do their maps. */
export function closeDatapath({ programs, maps }: Datapath): void {
  for (const { fd } of programs.values()) closeSync(fd)
  for (const map of maps.values()) map.close()
}

/** What the verifier accepts without them takes it longer, and is far from its limits all the same. */
function typesFor({ btf }: BpfObject): Uint8Array {
  return existsSync(KERNEL_TYPES) ? btf : new Btf(btf).withStaticFunctions()
}

function hasShape(info: bpf.MapInfo, { type, key, value, maxEntries, flags }: MapShape): boolean {
  const same = info.type === type && info.maxEntries === maxEntries && info.flags === flags
  return same && info.keyBytes === key.bytes && info.valueBytes === value.bytes
}

function createMap(shape: MapShape, btf: number): number {
  const { key, value, ...rest } = shape
  const attributes = { keyBytes: key.bytes, keyType: key.typeId, valueBytes: value.bytes, valueType: value.typeId }
  return open(`create BPF map ${shape.name}`, bpf.createMap({ ...rest, ...attributes, btf }))
}

function loadProgram(p: {
  readonly program: ProgramCode
  readonly object: BpfObject
  readonly btf: number
  readonly maps: ReadonlyMap<string, BpfMap>
  readonly attached: readonly number[]
}): Program {
  const { program, object, btf, maps, attached } = p
  const instructions = withMaps(program, name => maps.get(name)?.fd ?? -1)
  const attributes = { ...program, instructions, license: object.license, btf }
  const { name } = program
  const load = (): ReturnType<typeof bpf.loadProgram> => bpf.loadProgram(attributes, 'figures')
  let loaded = load()
  // The verifier gives up when a signal arrives, such as that of a child that has ended.
  for (let left = RETRIES; left > 0 && loaded.value < 0 && errnoName(loaded.errno) === 'EAGAIN'; left--) loaded = load()
  if (loaded.value >= 0) {
    const info = bpf.programInfo(loaded.value)
    const same = samePrograms(attached, info)
    return { name, fd: loaded.value, id: info?.id ?? 0, same, figures: loaded.log.trim() }
  }
  const { log } = bpf.loadProgram(attributes, 'all')
  const words = log.trimEnd().split('\n').slice(-LOG_LINES).join('\n')
  const doing = `load BPF program ${name}: ${errnoText(loaded.errno)}`
  throw new VxmeshError('ERR_KERNEL', words === '' ? doing : `${doing}; the verifier says:\n${words}`)
}

function open(doing: string, { value, errno }: { value: number; errno: number }): number {
  if (value < 0) throw kernelError(doing, errno)
  return value
}

function possibleProcessors(): number {
  return countProcessors(readFileSync('/sys/devices/system/cpu/possible', 'utf8'))
}

/**
 * How many processors a list such as `0-3,8` has. Of a map per processor the kernel keeps a value for each of those that are
 * possible. @throws ERR_UNSUPPORTED when it is no such list
 */
export function countProcessors(list: string): number {
  const ranges = list.trim().split(',')
  const counts = ranges.map(range => {
    const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(range) ?? []
    return Number(last) - Number(first) + 1
  })
  if (counts.some(count => !(count > 0))) {
    throw new VxmeshError('ERR_UNSUPPORTED', `${list.trim()} is no list of processors`)
  }
  return counts.reduce((sum, count) => sum + count, 0)
}
