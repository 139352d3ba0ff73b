// The control plane of a real client agent inside this process, without its data plane: the host's endpoints can be claimed
// by the thousand without touching any kernel.

import { ClusterState } from '#allocator/state-machine.ts'
import { ControlPlane } from '#agent/control-plane.ts'
import { EventBus } from '#agent/observe/event-bus.ts'
import { PeerDirectory } from '#agent/observe/peer-directory.ts'
import { closeParts, openParts } from '#agent/parts.ts'
import { systemMachine } from '#agent/system.ts'
import type { RunningMesh } from '#agent/machine.ts'
import { startMesh } from '#agent/agent.ts'
import { readClusterKeys } from '#config/cluster-key.ts'
import { loadConfig } from '#config/load.ts'
import type { Config } from '#config/schema.ts'
import type { PeerId } from '#model/ids.ts'
import { createLogger } from '#platform/log.ts'
import { waitFor } from './wait.ts'

export type ClientAgent = {
  readonly self: PeerId
  readonly control: ControlPlane
  readonly mesh: RunningMesh
  readonly state: ClusterState
  readonly stop: () => Promise<void>
}

/** Starts it from an agent's configuration file; resolves once the host is registered. */
export async function startClientAgent(configFile: string): Promise<ClientAgent> {
  const readConfig = (): Promise<Config> => loadConfig({ file: configFile, env: {}, flags: {} })
  const config = await readConfig()
  const keys = await readClusterKeys(config.clusterKeyFile)
  const parts = await openParts({ ...systemMachine, config, keys, logger: createLogger('warn'), readConfig })
  const state = new ClusterState()
  const directory = new PeerDirectory({ state, view: () => parts.membership.view() })
  const mesh = await startMesh(parts, directory)
  const control = new ControlPlane({
    parts,
    config: () => config,
    mesh,
    state,
    directory,
    events: new EventBus({ wallMs: Date.now }),
    changed: () => undefined,
    peersChanged: () => undefined,
    committed: () => undefined,
    fatal: err => {
      throw err
    }
  })
  await control.start()
  parts.membership.onChange(() => control.cluster.membersChanged())
  await parts.membership.start()
  await waitFor('this agent is registered', () => control.registrar.registered, { timeoutMs: 20_000 })
  const stop = async (): Promise<void> => {
    control.failPending()
    await control.stop()
    await mesh.stop()
    await closeParts(parts)
  }
  return { self: parts.identity.peerId, control, mesh, state, stop }
}
