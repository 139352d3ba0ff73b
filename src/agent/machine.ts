// What the agent uses of its machine and of the network between hosts. Production passes `systemMachine` (system.ts); tests run
// whole agents over parts in memory. Files and listening sockets are always real.

import type { Config } from '#config/schema.ts'
import type { Membership, MembershipOptions } from '#membership/serf/membership.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import type { Clock } from '#platform/clock.ts'
import type { Random } from '#platform/random.ts'
import type { MeshOptions } from '#replication/transport/mesh.ts'
import type { MeshPort } from '#replication/transport/mesh-port.ts'
import type { ZmqOptions } from '#zmq/server.ts'
import type { NetnsLookup } from './endpoints/local-endpoints.ts'

export type MembershipPort = Pick<
  Membership,
  | 'logDroppedBytes'
  | 'view'
  | 'onChange'
  | 'launch'
  | 'start'
  | 'stop'
  | 'leave'
  | 'join'
  | 'setJoin'
  | 'setTags'
  | 'stats'
>

export type RunningMesh = MeshPort & {
  /** Inbound connections refused before or in the handshake, by reason, since the start. */
  readonly refused: Readonly<Record<string, number>>
  stop(): Promise<void>
}

export type Machine = {
  readonly clock: Clock
  readonly random: Random
  /** @throws ERR_UNSUPPORTED naming `overlay.driver`, ERR_NETNS, ERR_KERNEL */
  readonly openDriver: (overlay: Config['overlay'], clock: Clock) => Promise<OverlayDriver>
  /** Not launched yet. */
  readonly makeMembership: (options: MembershipOptions) => MembershipPort
  /** @throws ERR_PEER when the port cannot be bound */
  readonly startMesh: (options: MeshOptions) => Promise<RunningMesh>
  /** At most one a process. @throws ERR_CONFIG naming the key whose address cannot be bound */
  readonly startZmq: (options: ZmqOptions) => Promise<{ stop(): Promise<void> }>
  /** Finds the network namespaces of containers below these directories. */
  readonly netns: (directories: readonly string[]) => NetnsLookup
}
