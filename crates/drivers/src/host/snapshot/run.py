main({'take': take, 'verify': verify, 'prepare': prepare, 'swap': swap, 'undo': undo, 'end': end, 'cancel': cancel}, **REQUEST)
