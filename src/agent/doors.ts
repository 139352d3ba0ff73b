// The doors that are open while the agent runs: metrics and health from the first moment, the API and ZeroMQ once it knows
// the members.

import { systemClock } from '#platform/clock.ts'
import { startApi } from '#api/server.ts'
import { ZmqServer } from '#zmq/server.ts'
import { readZmqKeys } from '#config/zmq-keys.ts'
import type { Agent } from './agent.ts'
import { AgentApi } from './agent-api.ts'
import type { Collector } from './endpoints/collector.ts'
import { openMetricsDoor } from './observe/figures.ts'

type Door = { close(): Promise<void> }

export class Doors {
  #metrics: Door | null = null
  #api: Door | null = null
  #zmq: ZmqServer | null = null
  #collector: Collector | null = null

  /** Whoever probes hears that this host is there. @throws ERR_CONFIG naming http.listen */
  async openMetrics(agent: Agent): Promise<void> {
    this.#metrics = await openMetricsDoor(agent, agent.config.http.listen)
  }

  /** Gives the door that it takes the place of, which is for the caller to close. */
  replaceMetrics(door: Door): Door | null {
    const before = this.#metrics
    this.#metrics = door
    return before
  }

  /** @throws ERR_CONFIG naming the address that cannot be had */
  async open(agent: Agent): Promise<void> {
    const { config, driver, logger } = agent
    const api = new AgentApi(agent)
    this.#collector = api.collector
    this.#collector.start()
    this.#api = await startApi({
      socketPath: config.socket,
      agent: api,
      clock: systemClock,
      logger: logger.child({ room: 'api' })
    })
    this.#zmq = await ZmqServer.start({
      addresses: config.zmq,
      curve: await readZmqKeys(config.zmq),
      agent: api,
      interfaceIndex: name => driver.devices.portNumber(name),
      logger: logger.child({ room: 'zmq' })
    })
  }

  collectAfter(ms: number): void {
    this.#collector?.setAfter(ms)
  }

  /** Nobody can ask any more. */
  async closeRequests(): Promise<void> {
    await this.#zmq?.stop()
    await this.#api?.close()
  }

  async close(): Promise<void> {
    await this.#metrics?.close()
    await this.#collector?.stop()
  }
}
