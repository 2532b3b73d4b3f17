import type { Arrival } from '../http/arrival.js'
import { endpointOf } from '../http/server-path.js'
import type { Platform } from '../platform.js'
import type { AuthorizationServer } from '../server/authorization-server.js'
import { activeOf } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import { refusal } from '../sign-in/auth-response.js'

/**
 * The endpoints of the authorization server that are the worker's alone: a page neither posts to
 * them nor gets a token for them as if they were an API.
 */
export interface ProtocolEndpoints {
  /** Is this one of them? Undefined while they are unknown. Synchronous. */
  includes(url: URL): boolean | undefined
  /** Sends a page's POST that may be to one of them, or refuses it. */
  answer(arrival: Arrival): Promise<Response>
}

/** Creates the lookup: what the server has said counts, and what the record has kept of it. */
export function createProtocolEndpoints({
  server,
  session,
  platform: { fetch },
}: {
  server: Pick<AuthorizationServer, 'protocolEndpoints' | 'recallEndpoints'>
  session: Pick<WorkerSession, 'peek' | 'read'>
  platform: Pick<Platform, 'fetch'>
}): ProtocolEndpoints {
  let lists: readonly (readonly string[] | undefined)[] = []
  let all = new Set<string>()
  let origins = new Set<string>()

  const includes = (url: URL): boolean | undefined => {
    // A worker that has just been started knows no metadata yet, but the record does.
    const stored = activeOf(session.peek()?.record)?.protocolEndpoints
    const known = server.protocolEndpoints()
    // Every request comes by here, so lists are gone through only when they change, and spellings
    // are compared only where an endpoint could be.
    if (lists[0] !== stored || lists[1] !== known) {
      lists = [stored, known]
      all = new Set([...known, ...(stored ?? [])])
      origins = new Set([...all].map((each) => each.split('/', 3).join('/')))
    }
    if (origins.has(url.origin) && all.has(endpointOf(url))) return true
    // What a script has written can add endpoints, but is not the whole list.
    return known.length > 0 ? false : undefined
  }

  return {
    includes,

    answer: async ({ request, url }) => {
      // A disk that fails does not keep a page from its own business.
      await Promise.all([server.recallEndpoints(), session.read()]).catch(() => {})
      return includes(url) ? refusal() : await fetch(request)
    },
  }
}
