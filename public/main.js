// The demo with a worker of its own. This is all an app does with tokenward; the files in app/
// only show what happens.
import { createTokenManager } from 'tokenward'
import { showAccount } from './app/account.js'
import { showCalls } from './app/calls.js'
import { showPicture } from './app/picture.js'
import { showSwitches } from './app/switches.js'

const auth = createTokenManager('/sw.js')

showAccount(auth)
showCalls()
showSwitches()
showPicture('/')
