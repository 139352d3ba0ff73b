// The preamble's state machine, without a connection.

import fc from 'fast-check'
import t from 'tap'
import { randomKey } from '#platform/random.ts'
import {
  Preamble,
  PreambleError,
  type PreambleFault,
  type PreambleStep,
  type Purpose
} from '#replication/transport/preamble.ts'

const KEY = randomKey(32)
const MAGIC = Buffer.from('vxmesh\0\x03')
const CONTINUES: PreambleStep = { reply: null, established: null }

const dialler = (key = KEY, purpose: Purpose = 'libp2p'): Preamble => new Preamble({ key, role: 'dialler', purpose })
const listener = (key = KEY, purpose: Purpose = 'libp2p'): Preamble => new Preamble({ key, role: 'listener', purpose })

function bytes(of: Uint8Array | null | undefined): Uint8Array {
  if (of === null || of === undefined) throw new Error('nothing was sent')
  return of
}

/** Pushes the bytes in chunks; the last step. */
function pushAll(to: Preamble, data: Uint8Array, chunk = data.byteLength): PreambleStep {
  let step = CONTINUES
  for (let at = 0; at < data.byteLength; at += chunk) step = to.push(data.subarray(at, at + chunk))
  return step
}

function fault(run: () => unknown): PreambleFault | null {
  try {
    run()
    return null
  } catch (err) {
    if (err instanceof PreambleError) return err.fault
    throw err
  }
}

t.test('two holders of the key agree on the salts, however the bytes are split', async () => {
  const sizes = fc.integer({ min: 1, max: 80 })
  fc.assert(
    fc.property(sizes, sizes, fc.uint8Array({ maxLength: 100 }), (forward, back, data) => {
      const [d, l] = [dialler(), listener()]
      const answer = bytes(pushAll(l, bytes(d.opening()), forward).reply)
      const proven = pushAll(d, answer, back)
      const proof = bytes(proven.reply)
      const early = pushAll(l, proof.subarray(0, 31), forward)
      const accepted = l.push(Buffer.concat([proof.subarray(31), data]))
      return (
        early.established === null &&
        Buffer.from(bytes(proven.established?.salts)).equals(bytes(accepted.established?.salts)) &&
        Buffer.from(bytes(accepted.established?.rest)).equals(data)
      )
    })
  )
})

t.test('a listener sends nothing before a whole hello', async t => {
  t.equal(listener().opening(), null)
  const hello = bytes(dialler().opening())
  t.strictSame(listener().push(hello.subarray(0, 40)), CONTINUES)
  t.equal(listener().push(hello).established, null, 'and believes nothing before the proof')
})

t.test('the first wrong byte is an error', async t => {
  for (let at = 0; at < MAGIC.byteLength; at++) {
    const wrong = Buffer.from(MAGIC)
    wrong[at] = 0xff
    const step = (): unknown => listener().push(wrong.subarray(0, at + 1))
    t.equal(fault(step), at === 7 ? 'another version' : 'not a preamble', `byte ${at}`)
  }
  t.equal(
    fault(() => dialler().push(Buffer.from('SSH-2.0-OpenSSH_9.2\r\n'))),
    'not a preamble'
  )
  t.equal(
    fault(() => listener().push(Buffer.from('GET / HTTP/1.1\r\n'))),
    'not a preamble'
  )
})

t.test('garbage of any length is an error at once', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 8, maxLength: 2_000 }), fc.boolean(), (garbage, dials) => {
      const refused = fault(() => (dials ? dialler() : listener()).push(garbage))
      return refused === (garbage.byteLength === 32 ? 'version 1' : 'not a preamble')
    })
  )
})

t.test('the salt alone of an older release is told from garbage', async t => {
  t.equal(
    fault(() => listener().push(randomKey(32))),
    'version 1'
  )
  t.equal(
    fault(() => dialler().push(randomKey(32))),
    'version 1'
  )
})

t.test('the release before, which named no purpose, is told by its version', async t => {
  const hello = Buffer.concat([Buffer.from('vxmesh\0\x02'), randomKey(32)])
  for (const purpose of ['libp2p', 'direct'] as const) {
    t.equal(
      fault(() => listener(KEY, purpose).push(hello)),
      'another version'
    )
    t.equal(
      fault(() => dialler(KEY, purpose).push(Buffer.concat([hello, randomKey(32)]))),
      'another version'
    )
  }
})

t.test('a preamble for one purpose serves no other, even with the purpose rewritten', async t => {
  t.equal(
    fault(() => listener(KEY, 'direct').push(bytes(dialler(KEY, 'libp2p').opening()))),
    'another purpose'
  )
  const [d, l] = [dialler(KEY, 'libp2p'), listener(KEY, 'direct')]
  const rewritten = (of: Uint8Array, purpose: string): Uint8Array => {
    const copy = Buffer.from(of)
    copy.write(purpose, 8)
    return copy
  }
  const answer = bytes(l.push(rewritten(bytes(d.opening()), 'D')).reply)
  t.equal(
    fault(() => d.push(answer)),
    'another purpose'
  )
  t.equal(
    fault(() => d.push(rewritten(answer, 'L'))),
    'another purpose',
    'the first wrong byte has ended it'
  )
  const again = dialler(KEY, 'libp2p')
  const other = listener(KEY, 'direct')
  const proof = bytes(other.push(rewritten(bytes(again.opening()), 'D')).reply)
  t.equal(
    fault(() => again.push(rewritten(proof, 'L'))),
    'wrong proof'
  )
})

t.test('data before the preamble has ended is an error', async t => {
  const [d, l] = [dialler(), listener()]
  const hello = bytes(d.opening())
  t.equal(
    fault(() => listener().push(Buffer.concat([hello, Buffer.alloc(1)]))),
    'early data'
  )
  const answer = bytes(l.push(hello).reply)
  t.equal(
    fault(() => d.push(Buffer.concat([answer, Buffer.alloc(1)]))),
    'early data'
  )
})

t.test('a proof by another key, a changed one, and a recorded one are wrong', async t => {
  const [d, l] = [dialler(), listener()]
  const hello = bytes(d.opening())
  const answer = bytes(l.push(hello).reply)
  t.equal(
    fault(() => dialler(randomKey(32)).push(answer)),
    'wrong proof',
    'an answer recorded for another dialler'
  )
  const proof = bytes(d.push(answer).reply)
  for (const at of [0, 31]) {
    const changed = Buffer.from(proof)
    changed[at] = (changed[at] ?? 0) ^ 1
    const another = listener()
    another.push(hello)
    t.equal(
      fault(() => another.push(changed)),
      'wrong proof'
    )
  }
  const replayed = listener()
  replayed.push(hello)
  t.equal(
    fault(() => replayed.push(proof)),
    'wrong proof',
    'a hello and a proof that were recorded'
  )
  t.ok(l.push(proof).established, 'positive control: where it belongs')
  const stranger = dialler(randomKey(32))
  const asked = bytes(stranger.opening())
  t.equal(
    fault(() => stranger.push(bytes(listener().push(asked).reply))),
    'wrong proof',
    'the listener has another key'
  )
})

t.test('a listener’s proof does not serve its dialler', async t => {
  const l = listener()
  const answer = bytes(l.push(bytes(dialler().opening())).reply)
  t.equal(
    fault(() => l.push(answer.subarray(41))),
    'wrong proof'
  )
})

t.test('a dialler that gets its own hello back has no proof', async t => {
  const d = dialler()
  const hello = bytes(d.opening())
  t.equal(
    fault(() => d.push(Buffer.concat([hello, Buffer.alloc(32)]))),
    'wrong proof'
  )
})
