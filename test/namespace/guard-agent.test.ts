// The guard by nftables in a real agent: left in place when the agent dies, and required for the start. programs.test.ts does
// the same for the programs.

import { execPath } from 'node:process'
import { resolve } from 'node:path'
import t from 'tap'
import { Lab } from '../lab/lab.ts'
import type { LabHost } from '../lab/host.ts'
import { bare } from '../lab/container.ts'
import { waitFor } from '../lab/wait.ts'
import { cannotRun } from '../lab/requirements.ts'
import { run } from '../lab/run.ts'

const skip = cannotRun()
const BY_NFT = { overlay: { driver: 'linux', guard: 'nft' } }
const MAIN = resolve(import.meta.dirname, '../../src/main.ts')

/** The text of each table, sorted: the kernel lists them in order of creation. Without what the kernel itself fills. */
const tables = async (host: LabHost): Promise<string> => {
  const { stdout } = await host.exec('nft', '-s', 'list', 'ruleset')
  return stdout
    .split(/^(?=table )/m)
    .map(text => text.replaceAll(/(?<=flags dynamic,timeout\n\t\ttimeout 1m\n)\t\telements = \{[^}]*\}\n/g, '').trim())
    .sort()
    .join('\n')
}

t.test(
  'agents guard their hosts, repair the guard within seconds, and leave it behind when they die',
  { skip },
  async t => {
    const lab = await Lab.create()
    t.teardown(() => lab.destroy())
    const [one, two] = await lab.addServerAndClient(BY_NFT)
    await one.api.call('POST', '/v1/networks', { name: 'red', subnet: '10.1.0.0/16' })
    const [a, b] = [await lab.container('a'), await lab.container('b')]
    await one.attach(a, 'red')
    const { address } = await two.attach(b, 'red')
    const reaches = async (): Promise<boolean> => (await a.ping(address, { count: 1 })).received === 1
    await waitFor('the containers reach each other', reaches)
    const right = await tables(one)
    t.match(right, two.address, 'the other host is allowed')
    t.notMatch(right, bare(address), 'a container of the other host has no port here')

    const table = async (): Promise<boolean> => (await tables(one)) === right
    await one.nft(['flush ruleset'])
    await waitFor('the tables are restored', table)
    t.ok(await reaches())

    await one.killAgent()
    t.equal(await tables(one), right, 'kill -9 leaves the tables')
    t.ok(await reaches())
    await one.startAgent()
    await one.waitReady()
    t.equal(await tables(one), right, 'the next agent leaves them unchanged')
    await one.detach(a)
    await waitFor('a detached container leaves no element', async () => !(await tables(one)).includes('02:'))
  }
)

t.test('an agent without nft does not start and reports why', { skip }, async t => {
  const lab = await Lab.create()
  t.teardown(() => lab.destroy())
  const host = await lab.addHost({ bootstrapExpect: 1, settings: BY_NFT })
  const inside = [`--net=/run/netns/${host.namespace}`, '/usr/bin/env', 'PATH=/nonexistent', execPath, MAIN]
  const { exitCode, stderr } = await run('nsenter', [...inside, 'agent', '--config', host.configFile])
  t.equal(exitCode, 1)
  t.match(stderr, /overlay\.guard.*set overlay\.guard to off/s)
})
