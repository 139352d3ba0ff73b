// Serf's configuration file. It contains the gossip key, which must never be in argv; only its owner may read the file.

import { join } from 'node:path'
import type { Ip } from '#model/ip.ts'
import { formatSocketAddress } from '#model/socket-address.ts'
import { encodeTags, type AgentTags } from '../view/tags.ts'

export type SerfOptions = {
  readonly name: string
  readonly bind: Ip
  readonly port: number
  readonly rpcPort: number
  /** 32 bytes, or null to gossip unencrypted (insecure). */
  readonly encryptKey: Buffer | null
  /** Token that the RPC requires; null to serve whoever can connect. */
  readonly rpcAuth: string | null
  readonly tags: AgentTags
  readonly join: readonly string[]
}

/**
 * The file's content. The RPC listens on loopback only. With `rpc_auth` a plain `serf join` fails, since Serf's commands take
 * the token from -rpc-auth and SERF_RPC_AUTH alone.
 * No `tags_file`, and no event handlers, which would run in a shell.
 */
export function serfConfig(options: SerfOptions, dir: string): string {
  const { encryptKey, rpcAuth } = options
  const bind = formatSocketAddress({ address: options.bind, port: options.port })
  return `${JSON.stringify(
    {
      node_name: options.name,
      bind,
      advertise: bind,
      rpc_addr: `127.0.0.1:${options.rpcPort}`,
      ...(rpcAuth === null ? {} : { rpc_auth: rpcAuth }),
      tags: encodeTags(options.tags),
      ...(encryptKey === null ? {} : { encrypt_key: encryptKey.toString('base64') }),
      snapshot_path: join(dir, 'serf.snapshot'),
      // A host that has left rejoins when its agent is started again.
      rejoin_after_leave: true,
      leave_on_terminate: false,
      skip_leave_on_interrupt: true,
      retry_join: options.join,
      retry_interval: '2s',
      retry_max_attempts: 0,
      // Otherwise any member ends this host's Serf by claiming its name: the minority of a vote quits.
      disable_name_resolution: true,
      disable_coordinates: true,
      profile: 'lan',
      log_level: 'info'
    },
    null,
    2
  )}\n`
}
