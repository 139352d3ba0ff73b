import { generateKeyPair } from '@libp2p/crypto/keys'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parsePeerId } from '#model/ids.ts'
import { loadIdentity } from '#replication/transport/identity.ts'

t.test('an identity is generated once, for its owner alone, and kept', async t => {
  const dir = t.testdir()
  const first = await loadIdentity(dir)
  t.equal(parsePeerId(first.peerId), first.peerId)
  t.equal(statSync(join(dir, 'identity.key')).mode & 0o777, 0o600)
  const again = await loadIdentity(dir)
  t.equal(again.peerId, first.peerId)
  t.ok(again.privateKey.equals(first.privateKey))
})

t.test('two data directories have different identities, and a copied key is the same identity', async t => {
  const dir = t.testdir({ a: {}, b: {}, c: {} })
  const [a, b] = [await loadIdentity(join(dir, 'a')), await loadIdentity(join(dir, 'b'))]
  t.not(a.peerId, b.peerId)
  writeFileSync(join(dir, 'c/identity.key'), readFileSync(join(dir, 'a/identity.key')))
  t.equal((await loadIdentity(join(dir, 'c'))).peerId, a.peerId)
})

t.test('the peer id follows from the key alone', async t => {
  const key = await generateKeyPair('Ed25519')
  const dir = t.testdir({ 'identity.key': '' })
  writeFileSync(join(dir, 'identity.key'), key.raw)
  t.equal((await loadIdentity(dir)).peerId, key.publicKey.toString())
})

t.test('a signature is the same as libp2p’s own, and its public key verifies it', async t => {
  const key = await generateKeyPair('Ed25519')
  const dir = t.testdir({ 'identity.key': '' })
  writeFileSync(join(dir, 'identity.key'), key.raw)
  const { privateKey } = await loadIdentity(dir)
  for (const bytes of [new Uint8Array(0), Buffer.from('message'), Buffer.alloc(100_000, 7)]) {
    const signature = await privateKey.sign(bytes)
    t.same(Buffer.from(signature), Buffer.from(await key.sign(bytes)))
    t.equal(await key.publicKey.verify(bytes, signature), true)
  }
})

t.test('a damaged key is refused by its path and left as it is', async t => {
  for (const bytes of [Buffer.alloc(0), Buffer.alloc(63), Buffer.alloc(65), Buffer.from('secret')]) {
    const dir = t.testdir()
    const path = join(dir, 'identity.key')
    writeFileSync(path, bytes)
    await t.rejects(loadIdentity(dir), {
      code: 'ERR_STORAGE',
      message: `${path} is damaged: ${bytes.byteLength} bytes instead of 64`
    })
    t.ok(readFileSync(path).equals(bytes))
  }
})

t.test('a key that cannot be read or written is a storage error', async t => {
  const dir = t.testdir()
  await t.rejects(loadIdentity(join(dir, 'absent')), { code: 'ERR_STORAGE', message: /ENOENT/ })
  mkdirSync(join(dir, 'identity.key'))
  await t.rejects(loadIdentity(dir), { code: 'ERR_STORAGE', message: /EISDIR/ })
})
