// bpf(2) by FFI. As in libc.ts, no call throws: a negative result comes with the errno, and the caller builds the error.
// Sizes of keys and values are the map's; the kernel reads and writes exactly those.

import { arch } from 'node:process'
import koffi from 'koffi'
import type { CallResult } from './libc.ts'

/** The system call's number, by Node's name of the architecture. */
const NUMBERS: Readonly<Partial<Record<NodeJS.Architecture, number>>> = { x64: 321, arm64: 280 }
const NUMBER = NUMBERS[arch]
const ENOSYS = 38

const COMMAND = {
  createMap: 0,
  lookup: 1,
  update: 2,
  load: 5,
  run: 10,
  programById: 13,
  mapById: 14,
  infoOf: 15,
  loadBtf: 18,
  lookupBatch: 24,
  updateBatch: 26,
  deleteBatch: 27
} as const

const PROG_TYPE_SCHED_CLS = 3
/** The kernel's names have at most 15 bytes. */
const NAME = 'char [16]'
const NAME_BYTES = 15
/** What the verifier says of a refused program; a longer text is cut. */
const LOG_BYTES = 256 * 1024

const lib = koffi.load(null)
type Fields = Record<string, unknown>
type Command = (attributes: Fields) => CallResult
type Syscall = (number: number, command: number, attributes: Fields, bytes: number) => number

/** A command whose attributes are the fields of one variant of `union bpf_attr`, in order. Those that are not given are 0. */
function command(number: number, fields: Readonly<Record<string, string>>): Command {
  const attributes = koffi.struct(fields)
  const pointer = koffi.inout(koffi.pointer(attributes))
  const call = lib.func('syscall', 'int64_t', ['int64_t', 'int', pointer, 'uint32_t']) as unknown as Syscall
  const size = koffi.sizeof(attributes)
  const unset = Object.entries(fields).map(([name, type]) => [name, unsetOf(type)] as const)
  return values => {
    if (NUMBER === undefined) return { value: -1, errno: ENOSYS }
    // The kernel's answers come back in the object itself.
    for (const [name, none] of unset) values[name] ??= none
    const value = call(NUMBER, number, values, size)
    return { value, errno: value < 0 ? koffi.errno() : 0 }
  }
}

function unsetOf(type: string): null | string | number {
  if (type.endsWith('*')) return null
  return type === NAME ? '' : 0
}

const element = { fd: 'uint32_t', padding: 'uint32_t', key: 'void *', value: 'void *', flags: 'uint64_t' }
const batch = {
  ...{ inBatch: 'void *', outBatch: 'void *', keys: 'void *', values: 'void *' },
  ...{ count: 'uint32_t', fd: 'uint32_t', elementFlags: 'uint64_t', flags: 'uint64_t' }
}
const byId = { id: 'uint32_t', next: 'uint32_t', flags: 'uint32_t' }

const kernel = {
  createMap: command(COMMAND.createMap, {
    ...{ type: 'uint32_t', keyBytes: 'uint32_t', valueBytes: 'uint32_t', maxEntries: 'uint32_t', flags: 'uint32_t' },
    ...{ inner: 'uint32_t', numaNode: 'uint32_t', name: NAME, ifindex: 'uint32_t' },
    ...{ btf: 'uint32_t', keyType: 'uint32_t', valueType: 'uint32_t' }
  }),
  load: command(COMMAND.load, {
    ...{ type: 'uint32_t', count: 'uint32_t', instructions: 'void *', license: 'const char *' },
    ...{ logLevel: 'uint32_t', logBytes: 'uint32_t', log: 'void *', version: 'uint32_t', flags: 'uint32_t' },
    ...{ name: NAME, ifindex: 'uint32_t', attachType: 'uint32_t', btf: 'uint32_t' },
    ...{ functionBytes: 'uint32_t', functions: 'void *', functionCount: 'uint32_t' },
    ...{ lineBytes: 'uint32_t', lines: 'void *', lineCount: 'uint32_t' }
  }),
  loadBtf: command(COMMAND.loadBtf, {
    ...{ btf: 'void *', log: 'void *', bytes: 'uint32_t', logBytes: 'uint32_t', logLevel: 'uint32_t' }
  }),
  lookup: command(COMMAND.lookup, element),
  update: command(COMMAND.update, element),
  updateBatch: command(COMMAND.updateBatch, batch),
  deleteBatch: command(COMMAND.deleteBatch, batch),
  lookupBatch: command(COMMAND.lookupBatch, batch),
  programById: command(COMMAND.programById, byId),
  mapById: command(COMMAND.mapById, byId),
  infoOf: command(COMMAND.infoOf, { fd: 'uint32_t', bytes: 'uint32_t', info: 'void *' }),
  run: command(COMMAND.run, {
    ...{ fd: 'uint32_t', result: 'uint32_t', inBytes: 'uint32_t', outBytes: 'uint32_t', in: 'void *', out: 'void *' },
    ...{ repeat: 'uint32_t', duration: 'uint32_t', contextInBytes: 'uint32_t', contextOutBytes: 'uint32_t' },
    ...{ contextIn: 'void *', contextOut: 'void *' }
  })
}

const programInfoType = koffi.struct({
  ...{ type: 'uint32_t', id: 'uint32_t', tag: 'uint8_t [8]', compiledBytes: 'uint32_t', checkedBytes: 'uint32_t' },
  ...{ compiled: 'void *', checked: 'void *', loadedAt: 'uint64_t', user: 'uint32_t' },
  ...{ mapCount: 'uint32_t', mapIds: 'uint32_t *', name: NAME }
})
const mapInfoType = koffi.struct({
  ...{ type: 'uint32_t', id: 'uint32_t', keyBytes: 'uint32_t', valueBytes: 'uint32_t', maxEntries: 'uint32_t' },
  ...{ flags: 'uint32_t', name: NAME }
})

export type MapAttributes = {
  readonly name: string
  /** BPF_MAP_TYPE_*. */
  readonly type: number
  readonly keyBytes: number
  readonly valueBytes: number
  readonly maxEntries: number
  /** BPF_F_*. */
  readonly flags: number
  /** The types of key and value in BTF, so that bpftool(8) can print them. */
  readonly btf: number
  readonly keyType: number
  readonly valueType: number
}

/** @returns a descriptor of the new map */
export function createMap(map: MapAttributes): CallResult {
  return kernel.createMap({ ...map, name: nameOf(map.name) })
}

/** @returns a descriptor of the types in the kernel */
export function loadBtf(btf: Uint8Array): CallResult {
  return kernel.loadBtf({ btf, bytes: btf.length })
}

export type ProgramAttributes = {
  readonly name: string
  readonly instructions: Uint8Array
  readonly license: string
  readonly btf: number
  readonly functions: RecordList
  readonly lines: RecordList
}

type RecordList = { readonly recordBytes: number; readonly data: Uint8Array }

/** How much the verifier is to say: the whole way through the program, or a line of figures. */
export type Verbosity = 'all' | 'figures'

const LOG_LEVEL: Readonly<Record<Verbosity, number>> = { all: 1 | 4, figures: 4 }

/** Loads a program for traffic control. @returns a descriptor of it, and what the verifier said */
export function loadProgram(p: ProgramAttributes, verbosity: Verbosity): CallResult & { readonly log: string } {
  const log = new Uint8Array(LOG_BYTES)
  const result = kernel.load({
    type: PROG_TYPE_SCHED_CLS,
    name: nameOf(p.name),
    instructions: p.instructions,
    count: p.instructions.length / 8,
    license: p.license,
    logLevel: LOG_LEVEL[verbosity],
    logBytes: log.length,
    log,
    btf: p.btf,
    functions: p.functions.data,
    functionBytes: p.functions.recordBytes,
    functionCount: p.functions.data.length / p.functions.recordBytes,
    lines: p.lines.data,
    lineBytes: p.lines.recordBytes,
    lineCount: p.lines.data.length / p.lines.recordBytes
  })
  return { ...result, log: Buffer.from(log.subarray(0, log.indexOf(0))).toString() }
}

/** Reads the value of a key into a buffer. Fails with ENOENT. Of a map per processor: one value for each possible processor. */
export function lookup(fd: number, key: Uint8Array, into: Uint8Array): CallResult {
  return kernel.lookup({ fd, key, value: into })
}

const BPF_NOEXIST = 1

/** Adds an entry. Fails with EEXIST, and with E2BIG in a full map. */
export function add(fd: number, key: Uint8Array, value: Uint8Array): CallResult {
  return kernel.update({ fd, key, value, flags: BPF_NOEXIST })
}

/** Entries of a map, keys and values back to back. */
export type Entries = { readonly keys: Uint8Array; readonly values: Uint8Array; readonly count: number }

/** Adds or replaces entries, in order. @returns how many were written, besides the outcome: the next one failed */
export function updateBatch(fd: number, { keys, values, count }: Entries): CallResult & { readonly done: number } {
  return batchOf(kernel.updateBatch, { fd, keys, values, count })
}

/** Deletes entries, in order. @returns how many were deleted, besides the outcome: the next one failed */
export function removeBatch(fd: number, keys: Uint8Array, count: number): CallResult & { readonly done: number } {
  return batchOf(kernel.deleteBatch, { fd, keys, count })
}

/**
 * Reads the next entries of a hash map into buffers. Fails with ENOENT at the end, having read the last ones; with ENOSPC
 * when one of the map's buckets has more entries than there is room for.
 * @param cursor 4 bytes, where the next read goes on @param first whether this is the first read
 */
export function lookupBatch(
  fd: number,
  p: Entries & { readonly cursor: Uint8Array; readonly first: boolean }
): CallResult & { readonly done: number } {
  const { cursor, first, keys, values, count } = p
  return batchOf(kernel.lookupBatch, { fd, inBatch: first ? null : cursor, outBatch: cursor, keys, values, count })
}

/** @returns a descriptor of a loaded program; ENOENT when it is gone. Needs CAP_SYS_ADMIN */
export function programById(id: number): CallResult {
  return kernel.programById({ id })
}

/** @returns a descriptor of a map; ENOENT when it is gone. Needs CAP_SYS_ADMIN */
export function mapById(id: number): CallResult {
  return kernel.mapById({ id })
}

export type ProgramInfo = {
  readonly id: number
  readonly name: string
  /** Of its instructions, without the maps that they refer to. */
  readonly tag: string
  readonly mapIds: readonly number[]
}
export type MapInfo = Pick<MapAttributes, 'name' | 'type' | 'keyBytes' | 'valueBytes' | 'maxEntries' | 'flags'>

/** Maps of one program whose ids are read. */
const MAP_IDS = 64

/** What struct bpf_prog_info says; null when it cannot be read. */
export function programInfo(fd: number): ProgramInfo | null {
  const ids = new Uint32Array(MAP_IDS)
  return readInfo(fd, programInfoType, { mapCount: MAP_IDS, mapIds: ids }, info => {
    const { id, name, tag, mapCount } = info as {
      readonly id: number
      readonly name: string
      readonly tag: Uint8Array
      readonly mapCount: number
    }
    return { id, name, tag: Buffer.from(tag).toString('hex'), mapIds: [...ids.subarray(0, mapCount)] }
  })
}

/** What struct bpf_map_info says; null when it cannot be read. */
export function mapInfo(fd: number): MapInfo | null {
  return readInfo(fd, mapInfoType, {}, info => {
    const { id: _, ...rest } = info as MapInfo & { id: number }
    return rest
  })
}

/** @param given the fields that the kernel reads */
function readInfo<T>(fd: number, type: typeof mapInfoType, given: Fields, read: (info: unknown) => T): T | null {
  const info: unknown = koffi.alloc(type, 1)
  try {
    koffi.encode(info, type, given)
    const known = kernel.infoOf({ fd, bytes: koffi.sizeof(type), info }).value >= 0
    return known ? read(koffi.decode(info, type)) : null
  } finally {
    koffi.free(info)
  }
}

/** Runs a program on a packet. @returns what the program returned, and the packet as it left it */
export function runProgram(
  fd: number,
  packet: Uint8Array,
  context: Uint8Array
): CallResult & { readonly verdict: number; readonly packet: Uint8Array; readonly context: Uint8Array } {
  const out = new Uint8Array(packet.length + 256)
  const contextOut = new Uint8Array(context.length)
  const attributes: Fields = {
    ...{ fd, in: packet, inBytes: packet.length, out, outBytes: out.length },
    ...{ contextIn: context, contextInBytes: context.length, contextOut, contextOutBytes: contextOut.length }
  }
  const result = kernel.run(attributes)
  return {
    ...result,
    verdict: Number(attributes['result'] ?? 0) | 0,
    packet: out.subarray(0, Number(attributes['outBytes'])),
    context: contextOut
  }
}

function batchOf(call: Command, attributes: Fields): CallResult & { readonly done: number } {
  const result = call(attributes)
  return { ...result, done: Number(attributes['count']) }
}

function nameOf(name: string): string {
  return name.slice(0, NAME_BYTES)
}
