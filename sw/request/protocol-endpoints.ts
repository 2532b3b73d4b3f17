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
  /**
   * Sends a page's POST that may be to one of them, or refuses it. What says that it is another
   * client's is sent: the server may have pages on this origin, and they are clients too.
   */
  answer(arrival: Arrival): Promise<Response>
}

/** A form that every server reads in the same way. */
const plainForm = /^application\/x-www-form-urlencoded(; *charset=utf-8)?$/i

/**
 * Is this POST for another client, for every server that may read it? It has to name one: servers
 * may recognise this client by a code or a token alone. What a server gives to another client, or
 * takes from it, is not this one's.
 */
const isForOther = async (clientId: string, { request, url }: Arrival): Promise<boolean> => {
  const { headers } = request
  if (headers.has('authorization') || !plainForm.test(headers.get('content-type') ?? '')) {
    return false
  }
  // Some servers read `;` as `&`, `Client_Id` or `client.id` as `client_id`, and no white space.
  const form = (await request.clone().text()).replaceAll(';', '&')
  const all = [...url.searchParams, ...new URLSearchParams(form)]
  const own = clientId.toLowerCase()
  return (
    all.filter(([name]) => name === 'client_id').length === 1 &&
    all.every(([, value]) => value.replace(/[^!-~]/g, '').toLowerCase() !== own)
  )
}

/** Creates the lookup: what the server has said counts, and what the record has kept of it. */
export function createProtocolEndpoints({
  config: { clientId },
  server,
  session,
  platform: { fetch },
}: {
  config: { clientId: string }
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

    answer: async (arrival) => {
      // A disk that fails does not keep a page from its own business.
      await Promise.all([server.recallEndpoints(), session.read()]).catch(() => {})
      const isRefused = includes(arrival.url) && !(await isForOther(clientId, arrival))
      return isRefused ? refusal() : await fetch(arrival.request)
    },
  }
}
