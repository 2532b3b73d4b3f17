import type { AuthPage } from '../../src/shared/protocol.js'
import { type Arrival, isInFrame } from '../http/arrival.js'
import { emptyPage } from './auth-response.js'
import type { Callback } from './callback.js'
import type { Landing } from './landing.js'
import type { Login } from './login.js'
import type { Logout } from './logout.js'

/** Answers the visit of an auth page. */
export type AuthPages = (page: AuthPage, arrival: Arrival) => Promise<Response>

/** Creates the answers to navigations to the auth pages. */
export function createAuthPages({
  login,
  callback,
  logout,
  landing,
}: {
  login: Pick<Login, 'leave'>
  callback: Callback
  logout: Pick<Logout, 'visit'>
  landing: Pick<Landing, 'end'>
}): AuthPages {
  return async (page, arrival) => {
    // A form that posts to an auth page answers no request of ours.
    if (arrival.request.method !== 'GET' && page !== 'callback') return landing.end(arrival)
    switch (page) {
      case 'login':
      case 'silent':
        return await login.leave(arrival, page)
      case 'callback':
        return await callback(arrival)
      case 'done':
        return isInFrame(arrival.request) ? emptyPage() : landing.end(arrival)
      case 'logout':
        return await logout.visit(arrival)
    }
  }
}
