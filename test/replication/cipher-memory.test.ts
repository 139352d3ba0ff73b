import t from 'tap'
import XSalsa20 from 'xsalsa20'
import { widenCipherMemory } from '#replication/cipher-memory.ts'

const KEY = new Uint8Array(32).fill(7)

t.test('a large write on one connection does not end the process when others write after it', async t => {
  widenCipherMemory()
  const ciphers = Array.from({ length: 6 }, (_, n) => XSalsa20(new Uint8Array(24).fill(n), KEY))
  ciphers[0]?.update(new Uint8Array(4 * 1024 * 1024))
  let done = 0
  for (; done < 6_000; done++) ciphers[done % ciphers.length]?.update(new Uint8Array(200))
  t.equal(done, 6_000)
})

t.test('what one end encrypts the other reads, whatever was written elsewhere in between', async t => {
  widenCipherMemory()
  const [here, there, other] = [1, 1, 2].map(n => XSalsa20(new Uint8Array(24).fill(n), KEY))
  for (const size of [1, 63, 64, 65, 1_000_000, 5]) {
    const text = new Uint8Array(size).fill(size & 255)
    const cipher = here?.update(text) ?? new Uint8Array()
    other?.update(new Uint8Array(2_000_000))
    t.ok(Buffer.from(there?.update(cipher) ?? []).equals(text), `${size} bytes`)
  }
})
