// Makes hostile inputs from valid ones: bytes are flipped, cut, doubled and spliced, and replaced by numbers and texts that
// break parsers. Deterministic: the same seed makes the same inputs.

import type { Random } from '../sim/random.ts'

/** Larger inputs are cut: they would only measure copying. */
export const MAX_INPUT_BYTES = 64 * 1024

const NUMBERS = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff]

const TEXTS = [
  ...[
    '',
    '\0',
    '\n',
    ' ',
    '"',
    '\\',
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    '/',
    '..',
    '../../etc/passwd',
    '%',
    '%s%n',
    '$(id)'
  ],
  ...['__proto__', 'constructor', 'toString', 'null', 'true', '-1', '1e999', 'NaN', '0x10', '9007199254740993', '00'],
  ...['10.0.0.0/33', '0.0.0.0/0', '255.255.255.255', '::1', '10.1.0.999', '10.1.0.0/8/8', 'ff:ff:ff:ff:ff:ff', '1mbit'],
  ...[
    '\u00fc',
    '\u202e',
    '\ud83d\ude00',
    '\ufeff',
    'ａ',
    '\u0000\u0001',
    'x'.repeat(300),
    '['.repeat(200),
    '{"a":'.repeat(60)
  ]
].map(text => Buffer.from(text))

type Mutation = (random: Random, bytes: Buffer, other: Buffer) => Buffer

const MUTATIONS: readonly Mutation[] = [
  function flipBit(random, bytes) {
    if (bytes.byteLength === 0) return bytes
    const at = random.below(bytes.byteLength)
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << random.below(8)), at)
    return bytes
  },
  function setByte(random, bytes) {
    if (bytes.byteLength > 0) bytes.writeUInt8(random.below(256), random.below(bytes.byteLength))
    return bytes
  },
  function setNumber(random, bytes) {
    const width = random.pick([1, 2, 4] as const)
    if (bytes.byteLength < width) return bytes
    const value = random.pick(NUMBERS) % 2 ** (8 * width)
    const at = random.below(bytes.byteLength - width + 1)
    if (random.chance(0.5)) bytes.writeUIntLE(value, at, width)
    else bytes.writeUIntBE(value, at, width)
    return bytes
  },
  (random, bytes) => bytes.subarray(0, random.below(bytes.byteLength + 1)),
  (random, bytes) => bytes.subarray(random.below(bytes.byteLength + 1)),
  function insertText(random, bytes) {
    const at = random.below(bytes.byteLength + 1)
    return Buffer.concat([bytes.subarray(0, at), random.pick(TEXTS), bytes.subarray(at)])
  },
  function replaceByText(random, bytes) {
    const [from, to] = [random.below(bytes.byteLength + 1), random.below(bytes.byteLength + 1)].sort((a, b) => a - b)
    return Buffer.concat([bytes.subarray(0, from), random.pick(TEXTS), bytes.subarray(to)])
  },
  function double(random, bytes) {
    const [from, to] = [random.below(bytes.byteLength + 1), random.below(bytes.byteLength + 1)].sort((a, b) => a - b)
    return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)])
  },
  function remove(random, bytes) {
    const [from, to] = [random.below(bytes.byteLength + 1), random.below(bytes.byteLength + 1)].sort((a, b) => a - b)
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)])
  },
  (random, bytes, other) =>
    Buffer.concat([
      bytes.subarray(0, random.below(bytes.byteLength + 1)),
      other.subarray(random.below(other.byteLength + 1))
    ]),
  (random, bytes) =>
    Buffer.concat([bytes, Buffer.from(Array.from({ length: random.below(32) }, () => random.below(256)))])
]

/** Applies one to eight changes to an input of the corpus, occasionally none. */
export function mutate(random: Random, corpus: readonly Uint8Array[]): Buffer {
  let bytes = Buffer.from(random.pick(corpus))
  const changes = random.chance(0.02) ? 0 : 1 + Math.floor(random.unit() ** 2 * 8)
  for (let n = 0; n < changes; n++)
    bytes = Buffer.from(random.pick(MUTATIONS)(random, bytes, Buffer.from(random.pick(corpus))))
  return bytes.subarray(0, MAX_INPUT_BYTES)
}
