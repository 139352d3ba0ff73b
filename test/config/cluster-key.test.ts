import { chmod, chown, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { PeerId } from '#model/ids.ts'
import { deriveKeys, generateClusterKey, readClusterKeys, serfRpcToken } from '#config/cluster-key.ts'

const refused = { code: 'ERR_CONFIG', field: 'clusterKeyFile' }
const KEY = Buffer.from('0123456789abcdef0123456789abcdef').toString('base64')

async function keyFile(t: Test, text: string, mode = 0o600): Promise<string> {
  const path = join(t.testdir(), 'cluster.key')
  await writeFile(path, text)
  await chmod(path, mode)
  return path
}

t.test('a generated key is one line of 32 random bytes that parses', async t => {
  const [one, two] = [generateClusterKey(), generateClusterKey()]
  t.not(one, two)
  t.equal(Buffer.from(one, 'base64').byteLength, 32)
  t.notMatch(one, /\s/)
  const keys = await readClusterKeys(await keyFile(t, `${one}\n`))
  t.same(keys, deriveKeys(one))
})

t.test('the two derived keys have 32 bytes and differ from each other and the cluster key', t => {
  const { serf, p2p } = deriveKeys(KEY)
  t.same([serf.byteLength, p2p.byteLength], [32, 32])
  t.notSame(serf, p2p)
  t.notSame(Buffer.from(serf).toString('base64'), KEY)
  t.same(deriveKeys(`  ${KEY}\r\n`), { serf, p2p }, 'white space around it does not matter')
  t.end()
})

t.test('the derivation is stable, so that hosts of different versions connect', t => {
  const { serf, p2p } = deriveKeys(KEY)
  t.equal(Buffer.from(serf).toString('hex'), SERF_HEX)
  t.equal(Buffer.from(p2p).toString('hex'), P2P_HEX)
  t.end()
})

// Computed with: openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:HEX-OF-THE-32-BYTES
//   -kdfopt info:"vxmesh serf gossip 1" HKDF   (and "vxmesh libp2p psk 1")
const SERF_HEX = '4f15bbfe1ad00330228cd938c1f554f99074cbe02ccfe4e9c1ae5500b3b5b619'
const P2P_HEX = 'faba6814a8003529f1e062210b885eb1794a892e5766abb4d54e7b30d945d1ad'

t.test('a file without a key of 32 bytes is refused', async t => {
  for (const text of [
    '',
    '\n',
    'secret',
    Buffer.alloc(31).toString('base64'),
    Buffer.alloc(33).toString('base64'),
    Buffer.alloc(16).toString('base64'),
    KEY.replace('=', ''),
    KEY.replace('M', '-'),
    `${KEY}\n${KEY}`,
    `key: ${KEY}`
  ]) {
    await t.rejects(readClusterKeys(await keyFile(t, text)), { ...refused, message: /32 bytes/ }, JSON.stringify(text))
  }
})

t.test('an error never shows the contents of the file', async t => {
  const secret = `${KEY}${KEY}`
  const err: unknown = await readClusterKeys(await keyFile(t, secret)).catch((err: unknown) => err)
  t.notMatch(String(err), KEY.slice(0, 20))
})

t.test('a file readable by others is refused, with advice', async t => {
  for (const mode of [0o644, 0o640, 0o604, 0o660, 0o610, 0o777]) {
    const path = await keyFile(t, KEY, mode)
    await t.rejects(readClusterKeys(path), { ...refused, message: new RegExp(`chmod 600 ${path}`) }, mode.toString(8))
  }
  for (const mode of [0o600, 0o400]) await t.resolves(readClusterKeys(await keyFile(t, KEY, mode)), mode.toString(8))
})

t.test('a file of another user is refused', { skip: process.getuid?.() === 0 ? false : 'needs root' }, async t => {
  const path = await keyFile(t, KEY)
  await chown(path, 65_534, 65_534)
  await t.rejects(readClusterKeys(path), { ...refused, message: /belongs to another user/ })
})

t.test('a missing file, a directory and a dangling link are refused, with advice', async t => {
  const directory = t.testdir()
  const missing = join(directory, 'none')
  await mkdir(join(directory, 'dir'), { mode: 0o700 })
  await symlink(missing, join(directory, 'link'))
  for (const name of ['none', 'dir', 'link']) {
    await t.rejects(readClusterKeys(join(directory, name)), { ...refused, message: /vxmesh keygen/ }, name)
  }
})

t.test('the token of Serf’s RPC differs by host and cluster, and is none of the keys', async t => {
  const keys = deriveKeys(KEY)
  const tokens = [
    serfRpcToken(keys, 'peer-1' as PeerId),
    serfRpcToken(keys, 'peer-2' as PeerId),
    serfRpcToken(deriveKeys(generateClusterKey()), 'peer-1' as PeerId),
    ...[keys.serf, keys.p2p].map(key => Buffer.from(key).toString('base64url'))
  ]
  t.equal(new Set(tokens).size, tokens.length)
  t.equal(serfRpcToken(keys, 'peer-1' as PeerId), tokens[0], 'it is stable')
})
