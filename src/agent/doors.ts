// The doors through which requests come: the HTTP API on its UNIX socket, and ZeroMQ.

import type { AgentPort } from '#model/agent-port.ts'
import { startApi } from '#api/server.ts'
import type { Config } from '#config/schema.ts'
import { readZmqKeys } from '#config/zmq-keys.ts'
import type { Devices } from '#overlay/driver.ts'
import type { Clock } from '#platform/clock.ts'
import type { Logger } from '#platform/log.ts'
import type { Machine } from './machine.ts'

export type Door = { close(): Promise<void> }

/** Opens both, or neither. @throws ERR_CONFIG naming the address that cannot be bound */
export async function openDoors(p: {
  readonly config: Config
  readonly agent: AgentPort
  readonly devices: Pick<Devices, 'portNumber'>
  /** See Parts.noOwners. */
  readonly noOwners: string | null
  readonly startZmq: Machine['startZmq']
  readonly clock: Clock
  readonly logger: Logger
}): Promise<Door> {
  const { config, agent, devices, noOwners, startZmq, clock, logger } = p
  const api = await startApi({ socketPath: config.socket, agent, clock, logger: logger.child({ room: 'api' }) })
  try {
    const zmq = await startZmq({
      addresses: config.zmq,
      curve: await readZmqKeys(config.zmq, noOwners),
      agent,
      interfaceIndex: name => devices.portNumber(name),
      clock,
      logger: logger.child({ room: 'zmq' })
    })
    return {
      close: async () => {
        await zmq.stop()
        await api.close()
      }
    }
  } catch (err) {
    await api.close()
    throw err
  }
}
