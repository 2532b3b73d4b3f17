import { bareInit } from '../http/authorized-request.js'
import type { ApiCall } from './api-part.js'

/** A request that other code sends, with what only it can be asked. */
export interface AttachedRequest {
  /** The request as it has to be sent: with a token, or bare if nobody is signed in. */
  request: Request
  /** Whose token it has; undefined if none. */
  owner?: string
  /**
   * What the page gets for the API's answer: after a 401, the answer to a second try with a new
   * token.
   *
   * @param spare The request once more, its body unread
   */
  settle(response: Response, spare: Request): Promise<Response>
}

/**
 * Attaches the token to a request that other code sends.
 *
 * @throws TypeError if somebody is signed in, but no token can be had now; an `AbortError`, as its
 *   sending does later, if the page has cancelled it
 */
export const attach = async (call: ApiCall, request: Request): Promise<AttachedRequest> => {
  const prepared = await call.prepare()
  if (prepared instanceof Response) throw new TypeError('There is no access token now.')
  const { token, reload } = prepared
  if (!token) {
    return {
      request: new Request(request, bareInit(request, { reload, signal: call.cancelled })),
      settle: async (response) => call.answer(response),
    }
  }
  return {
    request: new Request(request, await call.authorized(request, token)),
    owner: token.owner,
    settle: async (response, spare) => {
      call.noteAnswer(response, token)
      // Whether the nonce was to blame or the token, a proof cannot be sent a second time.
      if (call.isProven && response.status === 401) return await call.sendWith(spare, token)
      return await call.afterFirst(response, token, spare)
    },
  }
}
