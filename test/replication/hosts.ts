// Real libp2p nodes on loopback, for tests.

import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import type { Test } from 'tap'
import type { PeerId } from '#model/ids.ts'
import { parseIp, type Ip } from '#model/ip.ts'
import { systemClock, type Clock } from '#platform/clock.ts'
import { createLogger } from '#platform/log.ts'
import { Mesh } from '#replication/transport/mesh.ts'
import { Rpc } from '#replication/transport/rpc.ts'
import { freePort } from '#test/lab/free-port.ts'

const loopback = parseIp('127.0.0.1')

export type Host = {
  readonly mesh: Mesh
  readonly peer: PeerId
  readonly bind: Ip
  readonly port: number
  readonly rpc: Rpc
}

/** A host with its own key, which accepts every peer by default; stopped at the end of the test. */
export async function host(
  t: Test,
  p: { key?: Uint8Array | null; isKnown?: (peer: PeerId) => boolean; serves?: boolean; clock?: Clock; bind?: Ip } = {}
): Promise<Host> {
  const privateKey = await generateKeyPair('Ed25519')
  const port = await freePort()
  const { bind = loopback } = p
  const mesh = await Mesh.start({
    privateKey,
    bind,
    port,
    preSharedKey: p.key === undefined ? Buffer.alloc(32, 7) : p.key,
    topic: 'test-topic',
    isKnown: p.isKnown ?? (() => true),
    clock: p.clock ?? systemClock,
    logger: createLogger('silent')
  })
  t.teardown(() => mesh.stop())
  const rpc = new Rpc({ mesh, clock: systemClock })
  if (p.serves !== false) await rpc.start()
  return { mesh, bind, port, rpc, peer: peerIdFromPrivateKey(privateKey).toString() as PeerId }
}

/** Gives each the address of the other. */
export function introduce(a: Host, b: Host): void {
  a.mesh.setAddress(b.peer, { address: b.bind, port: b.port })
  b.mesh.setAddress(a.peer, { address: a.bind, port: a.port })
}
