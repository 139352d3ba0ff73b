// POST /v1/cni: a CNI call, forwarded by the plugin (cni/vxmesh-cni.c). 200 with CNI's result, 422 with its error object.

import type { FastifyInstance } from 'fastify'
import { answerCall } from '#cni/plugin.ts'
import type { AgentPort } from '#model/agent-port.ts'

/** The plugin's own limits: 64 KiB of variables and 1 MiB of configuration. */
const MAX_CALL_BYTES = 64 * 1024 + 1024 * 1024

/** Media type of a forwarded call (src/cni/call.ts). */
export const CNI_CALL = 'application/vnd.vxmesh.cni'

export function cniRoute(server: FastifyInstance, agent: AgentPort): void {
  server.addContentTypeParser(CNI_CALL, { parseAs: 'buffer', bodyLimit: MAX_CALL_BYTES }, (_request, body, done) => {
    done(null, body)
  })
  server.post('/v1/cni', { bodyLimit: MAX_CALL_BYTES }, async (request, reply) => {
    const { ok, text } = await answerCall(agent, request.body instanceof Uint8Array ? request.body : new Uint8Array())
    return reply
      .code(ok ? 200 : 422)
      .type('application/json')
      .send(text)
  })
}
