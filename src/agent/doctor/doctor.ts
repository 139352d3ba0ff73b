// `vxmesh doctor`: gathers facts, then judges them. Without an agent only the machine is examined. Nothing is changed.

import type { Config } from '#config/schema.ts'
import { LinuxDriver } from '#overlay/linux/driver.ts'
import { vxlanUnderlay } from '#overlay/plan/underlay/underlay.ts'
import { asVxmeshError } from '#model/errors.ts'
import type { DoctorView, FindingView } from '#model/views.ts'
import type { OverlayDriver } from '#overlay/driver.ts'
import { systemClock } from '#platform/clock.ts'
import { whyNoServices } from '../observe/no-services.ts'
import { ok, warning } from './finding.ts'
import { gatherMachine } from './gather-machine.ts'
import { gatherMesh, type MeshSources } from './gather-mesh.ts'
import { judgeAgent, judgeServices } from './judge-agent.ts'
import { judgeMachine } from './judge-machine.ts'
import { judgeMesh } from './judge-mesh.ts'

export type DoctorSources = MeshSources & {
  readonly driver: Pick<OverlayDriver, 'devices' | 'features' | 'name' | 'guard' | 'noPrograms'>
}

/** Examines machine, agent and mesh; takes 10 s at most. */
export async function examine(sources: DoctorSources): Promise<DoctorView> {
  const { driver, clock } = sources
  const config = sources.config()
  const [machine, mesh] = await Promise.all([gatherMachine({ config, driver, clock }), gatherMesh(sources)])
  const services = judgeServices({ why: whyNoServices(driver), count: sources.state.serviceCount })
  const findings = [ok('agent', 'answers'), ...judgeMesh(mesh), ...judgeAgent(mesh), services, ...judgeMachine(machine)]
  return view(config.name, findings)
}

/** Examines the machine as an agent with this configuration would use it. @param agent what was found of the agent itself */
export async function examineMachine(config: Config, agent: FindingView): Promise<DoctorView> {
  const driver = openLinuxDriver(config)
  try {
    const skipped = warning('mesh', 'not checked: that takes an agent', 'start the agent: systemctl start vxmesh')
    return view(config.name, [
      agent,
      skipped,
      ...judgeMachine(await gatherMachine({ config, driver, clock: systemClock }))
    ])
  } finally {
    if (typeof driver !== 'string') await driver.close()
  }
}

/**
 * The Linux driver, whatever is configured: opening the Open vSwitch driver would create the bridge. If it cannot be opened,
 * the reason.
 */
function openLinuxDriver({ overlay }: Config): LinuxDriver | string {
  try {
    return LinuxDriver.open({ underlay: vxlanUnderlay(overlay.vtep), clock: systemClock })
  } catch (err) {
    return asVxmeshError(err).message
  }
}

const ORDER = ['failed', 'warning', 'ok']

function view(host: string, findings: readonly FindingView[]): DoctorView {
  // Failures first, then warnings; a stable sort keeps the order within each level.
  const sorted = [...findings].sort((a, b) => ORDER.indexOf(a.level) - ORDER.indexOf(b.level))
  return { host, failed: findings.filter(({ level }) => level === 'failed').length, findings: sorted }
}
